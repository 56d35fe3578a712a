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
export const countOf = (number, thing) => `${number.toLocaleString("en")} ${thing}${number === 1 ? "" : "s"}`;

// The stretches to show: those of its parts, where a question has several.
export const marksOf = ({ parts = [], spans }) => (parts.length ? parts : spans);

// What else there is to know of a hit: its other places, and what was not read of it.
export function notesOf({ copies = [], near_identical = [], problem = null }) {
  const same = near_identical.length ? `looks the same: ${near_identical.join(", ")}` : "";
  return [copies.length ? `also ${copies.join(", ")}` : "", same, problem ?? ""].filter(Boolean);
}
