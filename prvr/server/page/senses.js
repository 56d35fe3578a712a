// The senses of a search: what is seen, what is said, and what is written on the screen.

import { at, make } from "./elements.js";
import { address, isAsked, isOneSentence, watching } from "./place.js";
import { clock } from "./words.js";

const FOUND_BY = { picture: "seen in the picture", speech: "said in the video", screen: "written on the screen" };
const KINDS = { subtitle: "subtitles", speech: "recognised speech", screen: "text on the screen" };
const LANGUAGES = new Intl.DisplayNames(["en"], { type: "language" });
const WHY_PICTURE = "Only one sentence alone can be looked for in words: everything else is looked for in the picture.";

// The choice of where to look; there is none where the index holds the pictures alone.
export function showSenses(place, texts) {
  const sense = place.in;
  const [isSaid, isWritten] = [texts.subtitle || texts.speech || sense === "speech", texts.screen || sense === "screen"];
  at("senses").hidden = !isSaid && !isWritten && !sense;
  const isOther = isAsked(place) && !isOneSentence(place);
  const choices = [["", "picture and words"], ["picture", "the picture"]];
  if (isSaid) choices.push(["speech", "what is said"]);
  if (isWritten) choices.push(["screen", "text on the screen"]);
  const chosen = isOther ? "picture" : sense;
  at("sense").replaceChildren(...choices.map(([value, said]) => make("option", { value, selected: value === chosen }, said)));
  at("sense").disabled = isOther;
  at("senses").title = isOther ? WHY_PICTURE : "";
}

export const chosenSense = () => (at("sense").disabled ? "" : at("sense").value);

// Which senses found a hit, in words.
export function foundBy({ found_by }) {
  const said = found_by.map((sense) => FOUND_BY[sense] ?? sense).join(", and ");
  return said && said[0].toUpperCase() + said.slice(1);
}

// The class of a text, which has its colour.
export const toneOf = ({ kind }) => (kind === "screen" ? "written" : "said");

// The words of a hit, which lead to their time.
export function quotesOf(hit, place) {
  const quotes = hit.quotes.map((quote) =>
    make("a", { class: `quote ${toneOf(quote)}`, href: address(watching(place, hit.video, quote.start)), title: quote.text }, make("b", {}, clock(quote.start)), " ", make("q", textAttributes(quote), quote.text)),
  );
  return make("div", { class: "quotes" }, ...quotes);
}

// A text is spoken in its language and runs in its direction.
export const textAttributes = ({ language }) => ({ lang: language || null, dir: "auto" });

// What the colours on a curve with words mean.
export function legendOf({ spans, quotes }) {
  if (!quotes.length) return [];
  const tones = new Set(quotes.map(toneOf));
  const rows = [["seen", spans.length, FOUND_BY.picture], ["said", tones.has("said"), FOUND_BY.speech], ["written", tones.has("written"), FOUND_BY.screen]];
  const items = rows.filter(([, isThere]) => isThere).map(([tone, , said]) => make("li", {}, make("i", { class: `part ${tone}` }), said));
  return [make("ul", { class: "legend", role: "list", "aria-label": "Colours of the curve" }, ...items)];
}

// By kind and language of texts what tells them apart: nothing where all are of one.
export function labelsOf(texts) {
  const several = (field) => new Set(texts.map((text) => text[field])).size > 1;
  const [kinds, languages] = [several("kind"), several("language")];
  const label = (text) => [kinds ? KINDS[text.kind] ?? text.kind : "", languages ? languageOf(text.language) : ""].filter(Boolean).join(", ");
  return kinds || languages ? label : () => "";
}

function languageOf(code) {
  try {
    return code ? LANGUAGES.of(code) : "unknown language";
  } catch {
    // No code of a language, whatever the file says.
    return code;
  }
}
