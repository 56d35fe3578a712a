// What the service is asked. Addresses are relative, so that the page works under any prefix.

export class Refusal extends Error {}

// A body makes it a POST request.
export async function ask(path, parameters, signal, body) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) for (const one of [value].flat()) query.append(name, one);
  let response;
  try {
    response = await fetch(`${path}?${query}`, { signal, ...(body ? { method: "POST", body } : {}) });
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
    throw new Refusal("The service does not answer. Is it still running?");
  }
  const answer = await response.json().catch(() => ({ error: `The service answered with status ${response.status}.` }));
  if (!response.ok) throw new Refusal(answer.error);
  return answer;
}

// The status of an address without what is there; null where nobody answers.
export async function statusOf(address) {
  return fetch(address, { method: "HEAD" }).then((response) => response.status, () => null);
}

// Waits until what is at an address is there, also while the service has no room for it; a refusal has the reason why it is not.
export async function waitFor(address, signal) {
  let response;
  try {
    for (;;) {
      response = await fetch(address, { signal, headers: { Range: "bytes=0-0" } });
      const seconds = Number(response.headers.get("Retry-After"));
      if (response.status !== 503 || !(seconds > 0)) break;
      await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
      signal.throwIfAborted();
    }
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
    throw new Refusal("The service does not answer. Is it still running?");
  }
  if (response.ok) return void (await response.arrayBuffer());
  const answer = await response.json().catch(() => ({}));
  throw new Refusal(answer.error ?? `The service answered with status ${response.status}.`);
}

const path = (video) => video.split("/").map(encodeURIComponent).join("/");

// The status of a picture of a file that has none, such as sound alone.
export const NO_PICTURES = 415;
export const uploadOf = (video) => `api/videos/${path(video)}`;
export const mediaOf = (video) => `media/${path(video)}`;
export const pictureOf = (video, seconds) => `thumbnails/${path(video)}?t=${Math.max(0, seconds ?? 0).toFixed(2)}`;
export const proxyOf = (video, window) => `proxies/${path(video)}?window=${window}`;
export const cutOf = (video, { start, end }) => `cuts/${path(video)}?start=${start.toFixed(3)}&end=${end.toFixed(3)}`;
