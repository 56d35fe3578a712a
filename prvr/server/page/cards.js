// A video as a card: the frame at the moment, the curve, title, time and score.

import { picture } from "./curve.js";
import { make } from "./elements.js";
import { address, watching } from "./place.js";
import { pictureOf } from "./service.js";
import { clock, folderOf, marksOf, notesOf, percent, stretch } from "./words.js";

// scale: that of all curves of the answer. rate: what a thumb does, with the moment and "more" or "less"; null where there are none.
export function hitCard(hit, rank, place, scale, rate = null) {
  const span = hit.spans[0];
  // The player opens where the picture was taken: what the card shows is what plays.
  const instant = hit.peak ?? 0;
  const said = hit.probability === null ? `score ${hit.score.toFixed(3)}` : `${percent(hit.probability)} likely, score ${hit.score.toFixed(3)}`;
  const label = `${rank}. ${hit.title}${span ? `, ${stretch(span)}` : ""}, ${said}`;
  const made = card(hit, label, watching(place, hit.video, instant), [
    frame(hit, instant, span ? stretch(span) : null),
    hit.edges.length > 1 ? picture({ ...hit, spans: marksOf(hit) }, scale) : null,
    names(hit),
    make("span", { class: "score" }, hit.probability === null ? hit.score.toFixed(3) : percent(hit.probability)),
  ]);
  made.dataset.at = String(instant);
  if (rate && hit.peak !== null) made.append(thumbs(hit, place, rate));
  return made;
}

function thumbs(hit, place, rate) {
  const moment = `${hit.video}@${hit.peak.toFixed(2)}`;
  const thumb = (name, sign, said) => {
    const pressed = place[name].includes(moment);
    return make("button", { type: "button", class: "thumb", "aria-pressed": String(pressed), "aria-label": `${said}: ${hit.title}`, title: said, onclick: () => rate(name, moment) }, sign);
  };
  return make("div", { class: "thumbs" }, thumb("more", "👍", "More like this"), thumb("less", "👎", "Not this"));
}

// Between the hits and those that sentences about anything else reach as well.
export function divider(text) {
  return make("li", { class: "divider" }, text);
}

export function videoCard(video, place) {
  const middle = (video.duration ?? 0) / 2;
  const parts = [frame(video, middle, video.duration ? clock(video.duration) : null), names(video)];
  return card(video, video.title, watching(place, video.video, 0), parts);
}

export function ghosts(count) {
  return Array.from({ length: count }, () => make("li", { class: "card ghost", "aria-hidden": "true" }, make("div", { class: "frame" }), make("i"), make("i")));
}

function card(video, label, place, parts) {
  const link = make("a", { href: address(place), "aria-label": label, title: video.video }, ...parts);
  return make("li", { class: "card", "data-video": video.video }, link);
}

function frame(video, seconds, badge) {
  const image = make("img", { src: pictureOf(video.video, seconds), alt: "", loading: "lazy", decoding: "async" });
  const box = make("div", { class: "frame" }, image, badge ? make("span", { class: "badge" }, badge) : null);
  image.addEventListener("load", () => image.classList.add("there"));
  image.addEventListener("error", () => box.classList.add("broken"));
  return box;
}

function names(video) {
  const lines = [folderOf(video.video), ...notesOf(video)].filter(Boolean);
  const small = lines.map((line) => make("span", { class: "folder", title: line }, line));
  return make("span", { class: "names" }, make("span", { class: "title" }, video.title), ...small);
}
