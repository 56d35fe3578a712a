// Numbers and names as people write them.

export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds + 0.05));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

// With tenths, where whole seconds would say too little.
export function stretch(span) {
  if (span.end - span.start >= 2) return `${clock(span.start)} – ${clock(span.end)}`;
  const tenths = (seconds) => `${clock(Math.floor(seconds * 10) / 10)}.${Math.floor(seconds * 10 + 1e-6) % 10}`;
  return `${tenths(span.start)} – ${tenths(span.end)}`;
}

export function folderOf(video) {
  return video.includes("/") ? video.slice(0, video.lastIndexOf("/")) : "";
}

// As the service names a video that it has not told of yet.
export const titleOf = (video) => fileOf(video).replace(/(?<=.)\.[^.]*$/, "").split(/[_\s]+/).filter(Boolean).join(" ") || video;
export const fileOf = (video) => video.slice(video.lastIndexOf("/") + 1);
export const percent = (share) => `${Math.round(100 * share)} %`;
export const sizeOf = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`);
export const countOf = (number, thing) => `${number.toLocaleString("en")} ${thing}${number === 1 ? "" : "s"}`;

// How well a hit fits, where that can be said in words: scores alone compare hits of one question, and their order says that.
export function fitOf({ probability, weak }) {
  if (probability !== null) return `${percent(probability)} likely`;
  return weak ? "weak match" : "";
}

// The same in a sentence; where sentences about anything else were measured, how many of them find less here.
export function longFitOf({ probability = null, strength = null }) {
  if (probability !== null) return `${percent(probability)} likely to show it`;
  return strength === null ? "" : `fits better than ${strength < 1 ? `${Math.floor(100 * strength)} % of` : "all"} unrelated sentences`;
}

// The stretches of the picture to show: those of its parts, where a question has several. Where words are what found a hit, its first
// stretch is theirs, which its quotes show.
export const marksOf = ({ parts = [], spans, found_by = ["picture"] }) => (parts.length ? parts : spans.slice((found_by[0] ?? "picture") === "picture" ? 0 : 1));

// What else there is to know of a hit: its other places, and what was not read of it.
export function notesOf({ copies = [], near_identical = [], problem = null }) {
  const same = near_identical.length ? `looks the same: ${near_identical.join(", ")}` : "";
  return [copies.length ? `also ${copies.join(", ")}` : "", same, problem ?? ""].filter(Boolean);
}
