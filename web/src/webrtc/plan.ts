// What a publisher means to send and under which name, as the address, this tab and this browser know it.
import { lasting, tab } from "../device/storage";
import { type Choice, SOURCES } from "./capture";

export interface Plan extends Choice {
  name: string;
  token: string;
}

/** What the address asks for, over what this tab was doing, over what was used last. `auto`: goes on air by itself. */
export function rememberedPlan(search: string): { plan: Plan; auto: boolean } {
  const query = new URLSearchParams(search);
  const was = parse(tab.get("live")) ?? parse(lasting.get("plan"));
  const source = query.get("source") ?? was?.source;
  return {
    plan: {
      name: query.get("stream") ?? was?.name ?? "main-stage",
      source: SOURCES.find((known) => known === source) ?? "mic",
      audio: was?.audio ?? "",
      video: was?.video ?? "",
      token: tab.get("token") ?? "",
    },
    auto: query.get("auto") === "1" || tab.get("live") !== undefined,
  };
}

function parse(text: string | undefined): Partial<Plan> | undefined {
  try {
    const value: unknown = text === undefined ? undefined : JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Partial<Plan>) : undefined;
  } catch {
    return undefined;
  }
}

/** It goes on air: a reload of this tab goes on with it. The token stays with the tab. */
export function keepPlan({ token, ...kept }: Plan): void {
  lasting.set("plan", JSON.stringify(kept));
  tab.set("live", JSON.stringify(kept));
  tab.set("token", token || undefined);
}

/** A reload is to begin nothing. */
export const endPlan = () => tab.set("live", undefined);
