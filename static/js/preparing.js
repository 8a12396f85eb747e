import { ensure, showReference } from "./ensure.js";
import { clearToasts, toast } from "./toast.js";

const LIMIT_MS = 14_000; // the user sees the result within fifteen seconds
const JITTER = 0.25; // spreads the retries of users who signed in at the same time

const page = document.querySelector("[data-preparing]");

/** Retries with growing pauses; then reloads the page or shows the error card. */
async function prepare() {
  const end = performance.now() + LIMIT_MS;
  let pauseMs = 1_000 * Number(page.dataset.firstPause); // as the `Retry-After` of this page
  toast("Preparando seu perfil…");
  for (let attempt = 0; attempt < Number(page.dataset.attempts); attempt += 1) {
    if (attempt > 0) toast("Erro, tentando novamente…");
    const waitMs = Math.max(pauseMs, 1_000 * 2 ** attempt) * (1 + Math.random() * JITTER);
    if (performance.now() + waitMs >= end) break;
    await new Promise((resolve) => setTimeout(resolve, waitMs));
    const answer = await ensure(page.dataset.preparing, end - performance.now());
    showReference(answer.reference);
    if (answer.isSettled) return location.reload();
    if (answer.needsSupport) break;
    pauseMs = answer.pauseMs;
  }
  showError();
}

function showError() {
  const card = document.querySelector("[data-terminal]");
  clearToasts();
  page.hidden = true;
  card.hidden = false;
  card.querySelector("h1").focus();
}

if (page) prepare();
