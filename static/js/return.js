// Brings the page back as soon as the system is back, without asking more and more often.
const FIRST_PAUSE_MS = 4_000;
const LONGEST_PAUSE_MS = 60_000;
const UNAVAILABLE = 503;

async function isBack() {
  try {
    const answer = await fetch(location.href, { method: "HEAD", redirect: "manual" });
    return answer.status !== UNAVAILABLE;
  } catch {
    return false; // no network either
  }
}

async function wait() {
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 1.5, LONGEST_PAUSE_MS)) {
    await new Promise((resolve) => setTimeout(resolve, pauseMs * (0.75 + Math.random() / 2)));
    if (await isBack()) return location.reload();
  }
}

wait();
