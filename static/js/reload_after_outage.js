// Reloads the page when the outage is over; polls with growing pauses and jitter.
const FIRST_PAUSE_MS = 4_000;
const LONGEST_PAUSE_MS = 60_000;
const UNAVAILABLE = 503;

async function isAvailable() {
  try {
    const answer = await fetch(location.href, { method: "HEAD", redirect: "manual" });
    return answer.status !== UNAVAILABLE;
  } catch {
    return false; // no network
  }
}

async function wait() {
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 1.5, LONGEST_PAUSE_MS)) {
    await new Promise((resolve) => setTimeout(resolve, pauseMs * (0.75 + Math.random() / 2)));
    if (await isAvailable()) return location.reload();
  }
}

wait();
