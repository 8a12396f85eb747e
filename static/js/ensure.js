const NEEDS_SUPPORT = 409; // no more retries in the background; only support can help

/**
 * Calls the server to ensure the profile, for at most `limitMs`. `isSettled` says that a retry
 * cannot change the answer, so that reloading the page shows the result.
 */
export async function ensure(url, limitMs) {
  try {
    const signal = AbortSignal.timeout(limitMs);
    const response = await fetch(url, { method: "POST", headers: { Accept: "application/json" }, signal });
    const isTransient = response.status === 429 || response.status >= 500;
    const seconds = Number(response.headers.get("Retry-After")) || 0;
    return {
      isSettled: !isTransient && response.status !== NEEDS_SUPPORT,
      needsSupport: response.status === NEEDS_SUPPORT,
      pauseMs: seconds * 1000,
      reference: response.headers.get("X-Request-ID"),
    };
  } catch {
    return { isSettled: false, needsSupport: false, pauseMs: 0, reference: null }; // no network, or timeout
  }
}

/** Shows the reference code of the latest response, for support. */
export function showReference(reference) {
  if (!reference) return;
  for (const code of document.querySelectorAll("[data-reference]")) {
    const old = code.textContent;
    code.textContent = reference;
    const help = code.closest("section").querySelector("[data-support]");
    if (help) help.href = help.href.replace(old, reference);
  }
}
