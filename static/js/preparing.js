import { ensure, showReference } from "./ensure.js";
import { clearToasts, toast } from "./toast.js";

// The page itself comes with an answer that asked for a pause of two seconds.
const FIRST_PAUSE_MS = 2_000;
const LIMIT_MS = 14_000; // whatever happens, the person knows within fifteen seconds
const JITTER = 0.25; // so that a whole class that came at once does not come back at once

const page = document.querySelector("[data-preparing]");

/** Tries again with growing pauses; ends in the page that was asked for or in the last card. */
async function prepare() {
  const end = performance.now() + LIMIT_MS;
  let pauseMs = FIRST_PAUSE_MS;
  toast("Preparando seu perfil…");
  for (let attempt = 0; attempt < Number(page.dataset.attempts); attempt += 1) {
    if (attempt > 0) toast("Erro, tentando novamente…");
    const patienceMs = Math.max(pauseMs, 1_000 * 2 ** attempt) * (1 + Math.random() * JITTER);
    if (performance.now() + patienceMs >= end) break;
    await new Promise((resolve) => setTimeout(resolve, patienceMs));
    const answer = await ensure(page.dataset.preparing, end - performance.now());
    showReference(answer.reference);
    if (answer.isSettled) return location.reload();
    if (answer.isHopeless) break;
    pauseMs = answer.pauseMs;
  }
  giveUp();
}

function giveUp() {
  const card = document.querySelector("[data-terminal]");
  clearToasts();
  page.hidden = true;
  card.hidden = false;
  card.querySelector("h1").focus();
}

if (page) prepare();
