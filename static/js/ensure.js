const HOPELESS = 409; // the background has given up, only support can help

/**
 * Asks the server to make sure of the profile, for at most `limitMs`. An answer that waiting does
 * not change is `settled`: the page itself then knows what to show.
 */
export async function ensure(url, limitMs) {
  try {
    const signal = AbortSignal.timeout(limitMs);
    const answer = await fetch(url, { method: "POST", headers: { Accept: "application/json" }, signal });
    const isPassing = answer.status === 429 || answer.status >= 500;
    const seconds = Number(answer.headers.get("Retry-After")) || 0;
    return {
      isSettled: !isPassing && answer.status !== HOPELESS,
      isHopeless: answer.status === HOPELESS,
      pauseMs: seconds * 1000,
      reference: answer.headers.get("X-Request-ID"),
    };
  } catch {
    return { isSettled: false, isHopeless: false, pauseMs: 0, reference: null }; // no network, or too slow
  }
}

/** Shows the code of the latest answer, for whoever talks to support. */
export function showReference(reference) {
  if (!reference) return;
  for (const code of document.querySelectorAll("[data-reference]")) {
    const old = code.textContent;
    code.textContent = reference;
    const help = code.closest("section").querySelector("[data-support]");
    if (help) help.href = help.href.replace(old, reference);
  }
}
