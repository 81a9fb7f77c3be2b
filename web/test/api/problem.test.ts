import { describe, expect, it } from "vitest";
import { Problem, problemOf, retryAfter } from "../../src/api/problem";

const answer = (status: number, body: string, headers: Record<string, string> = {}) =>
  new Response(body, { status, headers });

describe("problem", () => {
  it("shows the title the relay gives", async () => {
    const problem = await problemOf(
      answer(
        401,
        JSON.stringify({
          type: "/problems/token",
          title: "Give a publish token.",
          status: 401,
          detail: "no Authorization",
        }),
      ),
    );
    expect(problem.title).toBe("Give a publish token.");
    expect(problem.message).toBe("Give a publish token. (no Authorization)");
    expect(problem.passing).toBe(false);
  });

  it("says something useful whatever the body is", async () => {
    for (const body of ["", "<html>", "null", "[]", '{"title":7}', '{"title":"   "}', "\u0000"]) {
      const problem = await problemOf(answer(503, body));
      expect(problem.title).toBe("The relay is busy; trying again shortly.");
      expect(problem.passing).toBe(true);
    }
  });

  it("cuts a text that would fill the page", async () => {
    const problem = await problemOf(answer(400, JSON.stringify({ title: "x".repeat(10_000) })));
    expect(problem.title).toHaveLength(300);
  });

  it("reads Retry-After as seconds or as a date, within a minute", () => {
    const now = Date.parse("2026-11-22T12:00:00Z");
    expect(retryAfter("2", now)).toBe(2_000);
    expect(retryAfter("Sun, 22 Nov 2026 12:00:05 GMT", now)).toBe(5_000);
    expect(retryAfter("-4", now)).toBe(0);
    expect(retryAfter("99999", now)).toBe(60_000);
    expect(retryAfter("soon", now)).toBeUndefined();
    expect(retryAfter(null, now)).toBeUndefined();
  });

  it("asks again only where that can help", () => {
    const passing = [0, 409, 429, 500, 503].map((status) => new Problem(status, "").passing);
    expect(passing).toEqual([true, true, true, true, true]);
    expect([400, 401, 403, 404, 422].some((status) => new Problem(status, "").passing)).toBe(false);
  });
});
