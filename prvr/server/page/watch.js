// The player with what is known of the moment: the curve, the spans, the parts of the score.

import { Converted } from "./converted.js";
import { slider } from "./curve.js";
import { at, make } from "./elements.js";
import { address, here, isAsked, questionOf } from "./place.js";
import { askQuestion } from "./question.js";
import { legendOf, toneOf } from "./senses.js";
import { cutOf, mediaOf, NO_PICTURES, pictureOf, Refusal, statusOf } from "./service.js";
import { wantStill } from "./stills.js";
import { Transcript } from "./transcript.js";
import { clock, fileOf, marksOf, stretch } from "./words.js";

// What a part of the score says, in words.
const BRANCHES = {
  inheritance: "as the large model sees it",
  exploration: "as it was learned from captions",
  teacher: "picture and words compared",
};

// Milliseconds before the page says that a stretch is prepared.
const PATIENCE = 500;

export class Watch {
  constructor({ about, onClose }) {
    this.box = at("watch");
    this.about = about;
    this.onClose = onClose;
    this.shown = "";
    this.spans = [];
    this.transcript = new Transcript({ onSeek: (seconds) => this.seek(seconds) });
  }

  // Shows a place's video at its time; the same one is only sought in.
  show(place, { title, notes = [], fit = "", scale = null }) {
    const seconds = Number(place.at) || 0;
    const shown = JSON.stringify([place.video, questionOf(place)]);
    if (shown === this.shown) return this.seek(seconds);
    this.close();
    this.box.hidden = false;
    this.shown = shown;
    this.stop = new AbortController();
    Object.assign(this, { fit, scale, moments: null });
    this.build(place, title, seconds);
    this.caption(place.video, notes);
    // On a link the keys of the player would be the link's.
    this.heading.focus({ preventScroll: true });
    at("spoken").textContent = `Player: ${title} at ${clock(seconds)}`;
    this.transcript.show(place.video, seconds, this.stop.signal);
    if (isAsked(place)) this.explain(place, seconds);
  }

  // What is learned of the shown video only after it was opened.
  learn({ title, notes, fit = "", scale = null }) {
    if (!this.player) return;
    this.caption(this.path, notes);
    this.heading.textContent = title;
    this.player.setAttribute("aria-label", title);
    if (fit === this.fit && scale === this.scale) return;
    Object.assign(this, { fit, scale });
    if (!this.moments) return;
    this.facts.lastChild.replaceWith(parts(this.moments, fit));
    this.drawCurve(this.player.currentTime);
  }

  // Under the title: the path, other places of the same content, and what was not read.
  caption(path, notes) {
    this.path = path;
    this.lines.replaceChildren(...[path, ...notes].map((line) => make("span", { class: "folder", title: line }, line)));
  }

  close() {
    this.stop?.abort();
    this.converted?.stop();
    this.converted = undefined;
    clearTimeout(this.later);
    // Without a source the browser stops loading what nobody watches.
    this.player?.removeAttribute("src");
    this.player?.load();
    this.player = this.line = undefined;
    this.shown = "";
    this.spans = [];
    this.transcript.close();
    this.box.replaceChildren();
    this.box.hidden = true;
  }

  build(place, title, seconds) {
    this.player = make("video", { src: mediaOf(place.video), poster: pictureOf(place.video, seconds), controls: true, playsinline: true, preload: "auto", "aria-label": title });
    this.isBlind = false;
    this.wanted = seconds;
    this.player.addEventListener("loadedmetadata", () => {
      if (this.converted) return;
      this.seek(seconds);
      if (this.player.videoWidth === 0) this.blind(place.video);
    }, { once: true });
    for (const name of ["timeupdate", "seeking"]) this.player.addEventListener(name, () => this.follow(place.video));
    this.player.addEventListener("seeked", () => this.remember());
    this.player.addEventListener("error", () => this.unplayable(place.video));
    this.heading = make("h2", { tabindex: -1 }, title);
    this.lines = make("div", { class: "lines" });
    this.facts = make("div", { class: "facts" });
    this.similar = make("a", { class: "button", href: "#", hidden: !this.about.similar, id: "similar" }, "More like this moment");
    this.keepSimilar(place.video, seconds);
    this.take = make("a", { class: "button", download: "", hidden: true, id: "take" }, "Download this moment");
    const close = make("button", { type: "button", class: "quiet", onclick: () => this.onClose(), "aria-label": "Close the player", title: "Close (Esc)" }, "✕");
    this.curve = make("div", { class: "curve-box" });
    this.note = make("p", { class: "blind", role: "status", hidden: true });
    this.box.append(
      make("div", { class: "screen" }, this.player),
      this.note,
      this.curve,
      make("div", { class: "bar" }, make("div", { class: "heading" }, this.heading, this.lines), this.take, this.similar, close),
      this.facts,
    );
    // Where a browser wants a click first, the controls are there.
    this.player.play().catch(() => {});
  }

  async explain(place, seconds) {
    const { signal } = this.stop;
    this.curve.replaceChildren(make("div", { class: "track waiting" }));
    try {
      const moments = await askQuestion("api/moments", questionOf(place), { video: place.video }, signal);
      if (!signal.aborted) this.tell(moments, seconds);
    } catch (problem) {
      if (!(problem instanceof Refusal)) { if (problem.name !== "AbortError") throw problem; return; }
      this.curve.replaceChildren(make("p", { class: "faint", role: "alert" }, problem.message));
    }
  }

  tell(moments, seconds) {
    this.moments = moments;
    this.transcript.mark(moments.quotes);
    this.spans = [...marksOf(moments), ...moments.quotes].sort((one, other) => one.start - other.start);
    this.drawCurve(this.player.readyState ? this.player.currentTime : seconds);
    this.facts.replaceChildren(this.chips(moments), parts(moments, this.fit));
    this.keepMoment(seconds);
  }

  drawCurve(seconds) {
    const { moments } = this;
    if (moments.edges.length < 2) return this.curve.replaceChildren(make("p", { class: "faint" }, "The index does not know when this video's frames were taken."));
    this.line = slider({ ...moments, spans: marksOf(moments) }, { onSeek: (time) => this.seek(time), scale: this.scale });
    this.line.show(seconds);
    this.curve.replaceChildren(this.line.element, ...legendOf(moments));
  }

  chips(moments) {
    const quotes = moments.quotes.map((quote) => ({ ...quote, said: `“${quote.text}”`, tone: toneOf(quote) }));
    const chips = [...marksOf(moments), ...quotes].map((span) => {
      const said = span.said ? ` ${span.said}` : "";
      return make("button", { type: "button", class: `chip ${span.tone ?? ""}`, dir: "auto", onclick: () => this.seek(span.start), "aria-label": `Play from ${clock(span.start)} to ${clock(span.end)}${said && `:${said}`}` }, `▶ ${stretch(span)}${said}`);
    });
    return make("div", { class: "chips", role: "group", "aria-label": "Moments" }, ...chips);
  }

  seek(seconds) {
    if (!this.player) return;
    this.wanted = seconds;
    this.transcript.follow(seconds);
    if (this.converted) this.converted.show(seconds);
    else if (this.player.readyState === 0) {
      this.player.addEventListener("loadedmetadata", () => this.seek(this.wanted), { once: true });
    } else if (Math.abs(this.player.currentTime - seconds) > 0.001) this.player.currentTime = seconds;
    this.line?.show(seconds);
  }

  // The curve follows the player; where the browser shows no pictures, those of the service do.
  follow(video) {
    if (!this.player) return;
    const { player } = this;
    const { time } = this;
    this.line?.show(time);
    this.transcript.follow(time);
    this.keepMoment(time);
    if (this.isBlind) wantStill(video, player.currentTime, (image) => (player.poster = image.src));
  }

  // The browser plays the sound of a file and shows nothing: its pictures are coded in a way that it does not know, or there are none.
  async blind(video) {
    const { player } = this;
    const status = await statusOf(pictureOf(video, 0));
    if (player !== this.player || this.converted) return;
    if (status === NO_PICTURES) return this.say("This file has sound alone; there is nothing to see.");
    this.convert(video, (reason) => {
      this.isBlind = true;
      player.src = mediaOf(video);
      this.seek(this.wanted);
      this.say(`This browser plays the sound of this file (${kindOf(video)}), but cannot show its pictures, and it cannot be converted: ${reason}. You see single pictures of it. `, this.whole(video), " to watch it in another player.");
    });
  }

  // The service converts what this browser cannot play.
  convert(video, onFail) {
    const hasPlayed = () => this.converted.number !== null;
    this.converted = new Converted(this.player, video, this.about.window, {
      onWait: () => this.sayLater("Preparing this stretch of the video for your browser …"),
      onReady: () => this.say(`This browser cannot play the file (${kindOf(video)}): you see a converted copy. `, this.whole(video)),
      onFail: (reason) => {
        clearTimeout(this.later);
        if (hasPlayed()) return this.say(`This stretch cannot be converted: ${reason}. `, this.whole(video));
        this.note.hidden = true;
        this.converted.stop();
        this.converted = undefined;
        onFail(reason);
      },
    });
    this.converted.show(this.wanted);
  }

  // What is written already stays, with the focus that it may have.
  say(...words) {
    clearTimeout(this.later);
    this.note.hidden = false;
    if (this.note.textContent !== words.map((word) => word.textContent ?? word).join("")) this.note.replaceChildren(...words);
  }

  sayLater(words) {
    clearTimeout(this.later);
    this.later = setTimeout(() => this.note.contains(document.activeElement) || this.say(words), PATIENCE);
  }

  whole(video) {
    return make("a", { href: mediaOf(video), download: fileOf(video) }, "Download it");
  }

  // The address keeps the position, so that a copied link leads to it.
  remember() {
    const place = here();
    if (!this.player || place.video === "") return;
    const seconds = this.player.currentTime;
    history.replaceState(history.state, "", address({ ...place, at: seconds.toFixed(2) }));
    this.keepSimilar(place.video, seconds);
  }

  keepSimilar(video, seconds) {
    this.similar.href = address(questionOf({ like: video, t: seconds.toFixed(2), where: here().where }));
  }

  // The moment that is watched as a file of its own: the one at a time, otherwise the nearest one.
  keepMoment(seconds) {
    this.take.hidden = this.spans.length === 0;
    if (this.take.hidden) return;
    const away = ({ start, end }) => Math.max(start - seconds, seconds - end, 0);
    const address = cutOf(this.path, this.spans.reduce((best, span) => (away(span) < away(best) ? span : best)));
    if (this.take.getAttribute("href") !== address) this.take.href = address;
  }

  async unplayable(video) {
    const { player, converted } = this;
    // A file that fails while the first window is made says nothing new.
    if (!player?.getAttribute("src") || converted?.number === null) return;
    const status = await statusOf(mediaOf(video));
    if (player !== this.player || converted !== this.converted) return;
    const said = { 200: `This browser cannot play the file (${kindOf(video)}).`, 404: "The file is no longer there." }[status];
    const told = said ?? (status === null ? "The service does not answer. Is it still running?" : `The service answered with status ${status}.`);
    const tell = (...words) => player.parentElement.append(make("div", { class: "unplayable", role: "alert" }, ...words));
    if (status !== 200) return tell(make("p", {}, told));
    const whole = make("a", { class: "button", href: mediaOf(video), download: fileOf(video) }, "Download it");
    if (converted) return tell(make("p", {}, told), whole);
    this.convert(video, (reason) => tell(make("p", {}, told), make("p", {}, `It cannot be converted: ${reason}.`), whole));
  }

  // Where the player is, or will be when there is something to play.
  get time() {
    return this.converted?.time ?? (this.player.readyState ? this.player.currentTime : this.wanted);
  }

  // What a key does in the player; false where it does nothing.
  key(name) {
    const { player } = this;
    if (!player) return false;
    if (name === " ") player.paused ? player.play().catch(() => {}) : player.pause();
    else if (name === "ArrowLeft") this.seek(Math.max(0, this.time - 1));
    else if (name === "ArrowRight") this.seek(Math.min(player.duration > 0 ? player.duration : Infinity, this.time + 1));
    else if (name === "s" && this.spans.length) {
      const next = this.spans.find((span) => span.start > this.time + 0.2) ?? this.spans[0];
      this.seek(next.start);
    } else if (name === "m" && !this.similar.hidden) this.similar.click();
    else return false;
    return true;
  }
}

const kindOf = (video) => video.slice(video.lastIndexOf(".") + 1);

function parts(moments, fit) {
  const names = Object.keys(moments.contributions);
  const whole = names.reduce((sum, name) => sum + Math.max(0, moments.contributions[name]), 0) || 1;
  const bars = make("div", { class: "bars", "aria-hidden": "true" });
  const list = make("ul", { class: "legend", role: "list" });
  names.forEach((name, n) => {
    const share = Math.max(0, moments.contributions[name]) / whole;
    const bar = make("i", { class: `part part-${n % 4}` });
    bar.style.inlineSize = `${100 * share}%`;
    bars.append(bar);
    const swatch = make("i", { class: `part part-${n % 4}` });
    list.append(make("li", { title: name }, swatch, BRANCHES[name] ?? name.replaceAll("_", " "), make("b", {}, moments.contributions[name].toFixed(3))));
  });
  const sure = fit ? make("p", {}, `${fit[0].toUpperCase()}${fit.slice(1)}.`) : null;
  const numbers = make(
    "div",
    { class: "numbers" },
    make("div", { class: "total" }, "score ", make("b", {}, moments.score.toFixed(3))),
    names.length > 1 ? bars : null,
    make("div", {}, list),
  );
  return make("div", { class: "parts" }, sure, make("details", {}, make("summary", {}, "How this was ranked"), numbers));
}
