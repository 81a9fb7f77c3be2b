import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { endPlan, keepPlan, rememberedPlan } from "../../src/webrtc/plan";

const storage = () => {
  const kept = new Map<string, string>();
  return {
    kept,
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => kept.set(key, value),
    removeItem: (key: string) => kept.delete(key),
  };
};
const PLAN = { name: "forest", source: "camera", audio: "a1", video: "v1", token: "secret" } as const;

describe("plan", () => {
  let browser: ReturnType<typeof storage>;
  let tab: ReturnType<typeof storage>;

  beforeEach(() => {
    browser = storage();
    tab = storage();
    vi.stubGlobal("localStorage", browser);
    vi.stubGlobal("sessionStorage", tab);
  });
  afterEach(() => vi.unstubAllGlobals());

  it("begins with the main stage and a microphone", () => {
    const plan = { name: "main-stage", source: "mic", audio: "", video: "", token: "" };
    expect(rememberedPlan("")).toEqual({ plan, auto: false });
  });

  it("goes on after a reload, and only offers the same again once it was stopped", () => {
    keepPlan(PLAN);
    expect(rememberedPlan("")).toEqual({ plan: PLAN, auto: true });
    endPlan();
    expect(rememberedPlan("")).toEqual({ plan: PLAN, auto: false });
  });

  it("never leaves the token to the browser", () => {
    keepPlan(PLAN);
    expect([...browser.kept.values()].join()).not.toContain("secret");
    vi.stubGlobal("sessionStorage", storage());
    expect(rememberedPlan("").plan.token).toBe("");
  });

  it("does what the address asks for, as far as there is such a source", () => {
    keepPlan(PLAN);
    endPlan();
    const { plan, auto } = rememberedPlan("?auto=1&stream=main-stage/commentary&source=mic");
    expect([plan.name, plan.source, plan.audio, auto]).toEqual(["main-stage/commentary", "mic", "a1", true]);
    expect(rememberedPlan("?source=hologram").plan.source).toBe("mic");
  });

  it("survives whatever the storage holds", () => {
    for (const broken of ["", "{", "null", "7", '"x"']) {
      browser.setItem("peddlenet.plan", broken);
      expect(rememberedPlan("").plan.name).toBe("main-stage");
    }
  });
});
