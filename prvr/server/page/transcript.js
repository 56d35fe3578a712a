// What is said and written in the watched video: it follows the player, and a line leads to its time.

import { at, make } from "./elements.js";
import { labelsOf, textAttributes, toneOf } from "./senses.js";
import { ask, Refusal } from "./service.js";
import { clock } from "./words.js";

// Seconds by which a player may stop before the time that it was sent to.
const NEAR = 0.05;

export class Transcript {
  // onSeek: what happens with the seconds of a line that was chosen.
  constructor({ onSeek }) {
    this.onSeek = onSeek;
    this.list = at("transcript-lines");
    this.close();
    this.list.addEventListener("scroll", () => {
      // Who scrolls reads elsewhere, and is not pulled away.
      if (Math.abs(this.list.scrollTop - this.scrolledTo) > 1) this.setFollowing(false);
    });
    this.list.addEventListener("keydown", (event) => this.move(event));
    at("transcript-of").addEventListener("change", () => this.narrow());
    at("transcript-follow").addEventListener("click", () => {
      this.setFollowing(true);
      this.focus(this.lastBegun());
    });
  }

  // Shows the texts of a video, from a second on; nothing where it has none.
  async show(video, seconds, signal) {
    this.seconds = seconds;
    const texts = await ask("api/transcript", { video }, signal).then((answer) => answer.texts, (problem) => {
      if (problem.name === "AbortError" || problem instanceof Refusal) return [];
      throw problem;
    });
    if (signal.aborted || !texts.length) return;
    const labelOf = labelsOf(texts);
    this.lines = texts.map((text) => this.line(text, labelOf(text)));
    const labels = [...new Set(this.lines.map((line) => line.label))];
    at("transcript-of").replaceChildren(...["all texts", ...labels].map((label, n) => make("option", { value: n ? label : "" }, label)));
    at("transcript-of").hidden = labels.length < 2;
    this.list.replaceChildren(...this.lines.map((line) => line.item));
    at("transcript").hidden = false;
    this.mark(this.quotes);
    this.narrow();
  }

  line(text, label) {
    const small = label ? make("small", {}, label) : null;
    const button = make("button", { type: "button", class: `line ${toneOf(text)}`, tabindex: -1, onclick: () => this.choose(text) }, make("b", {}, clock(text.start)), make("span", textAttributes(text), text.text), small);
    return { text, label, button, item: make("li", {}, button) };
  }

  close() {
    Object.assign(this, { lines: [], quotes: [], seconds: 0, latest: null, scrolledTo: 0 });
    this.setFollowing(true);
    this.list.replaceChildren();
    at("transcript").hidden = true;
  }

  // Marks the lines that answer the question.
  mark(quotes) {
    this.quotes = quotes;
    const keyOf = ({ start, end, text, kind, language }) => JSON.stringify([start, end, text, kind, language]);
    const keys = new Set(quotes.map(keyOf));
    for (const { text, button } of this.lines) button.classList.toggle("quoted", keys.has(keyOf(text)));
  }

  // Shows where the player is.
  follow(seconds) {
    this.seconds = seconds;
    const now = seconds + NEAR;
    for (const { text, button } of this.lines) {
      const isNow = text.start <= now && now < text.end;
      if (isNow !== button.hasAttribute("aria-current")) isNow ? button.setAttribute("aria-current", "true") : button.removeAttribute("aria-current");
    }
    const latest = this.lastBegun();
    if (!latest || latest === this.latest) return;
    this.latest = latest;
    if (!this.list.contains(document.activeElement)) this.stopAt(latest);
    this.keepInView();
  }

  // The line that was begun last, otherwise the first.
  lastBegun() {
    const shown = this.shown();
    return shown.findLast(({ text }) => text.start <= this.seconds + NEAR) ?? shown[0];
  }

  shown() {
    return this.lines.filter(({ item }) => !item.hidden);
  }

  keepInView() {
    if (!this.isFollowing || !this.latest) return;
    const { offsetTop, offsetHeight } = this.latest.item;
    this.list.scrollTop = offsetTop - (this.list.clientHeight - offsetHeight) / 2;
    this.scrolledTo = this.list.scrollTop;
  }

  // Shows the texts of the chosen kind and language.
  narrow() {
    const label = at("transcript-of").value;
    for (const line of this.lines) line.item.hidden = Boolean(label) && line.label !== label;
    this.latest = null;
    this.setFollowing(true);
    this.follow(this.seconds);
  }

  choose({ start }) {
    this.setFollowing(true);
    this.onSeek(start);
  }

  setFollowing(isFollowing) {
    this.isFollowing = isFollowing;
    at("transcript-follow").hidden = isFollowing;
    this.keepInView();
  }

  // One line is a stop of the Tab key; from there the arrow keys lead to the others.
  move(event) {
    const shown = this.shown();
    const place = shown.findIndex(({ button }) => button === event.target);
    const places = { ArrowUp: place - 1, ArrowDown: place + 1, Home: 0, End: shown.length - 1 };
    if (place < 0 || !(event.key in places) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.setFollowing(false);
    this.focus(shown[Math.min(Math.max(places[event.key], 0), shown.length - 1)]);
  }

  focus(line) {
    this.stopAt(line);
    line.button.focus();
  }

  stopAt(line) {
    for (const { button } of this.lines) if (button.tabIndex === 0) button.tabIndex = -1;
    line.button.tabIndex = 0;
  }
}
