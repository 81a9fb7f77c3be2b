// Waiting for a fact instead of for a time.

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Asks until the answer is truthy and returns it; fails by name after `ms`. */
export async function until(fact, ms, ask, everyMs = 50) {
  const end = performance.now() + ms;
  let last;
  for (;;) {
    const answer = await ask().catch((error) => {
      if (/^relay of /.test(error.message)) throw error;
      last = error;
    });
    if (answer) return answer;
    if (performance.now() > end)
      throw new Error(`after ${ms} ms still not so: ${fact}${last ? ` (${last.message})` : ""}`);
    await sleep(everyMs);
  }
}
