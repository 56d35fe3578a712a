// The page: reads its address, asks the service, and shows what comes back.

import { Adding } from "./adding.js";
import { addSentence, additions, showAdditions } from "./additions.js";
import { ghosts, hitCard, videoCard } from "./cards.js";
import { scaleOf } from "./curve.js";
import { at, make } from "./elements.js";
import { Filters } from "./filters.js";
import { Indexing } from "./indexing.js";
import { address, conditionsOf, here, isAsked, placeOf, questionOf } from "./place.js";
import { askQuestion, keepPicture, titleOfQuestion } from "./question.js";
import { chosenSense, showSenses } from "./senses.js";
import { ask, Refusal } from "./service.js";
import { arrange, showSorting } from "./sorting.js";
import { countOf, longFitOf, notesOf, percent, titleOf } from "./words.js";
import { Watch } from "./watch.js";

const HITS = 24;
const PAGE = 48;
// Before this many milliseconds an answer is there, and a sign of waiting would only flicker.
const PATIENCE = 150;

const list = at("results");
const UNKNOWN = { videos: 0, similar: false, method: "", frames: "", texts: {}, writable: false, suffixes: [], upload_limit: 0, window: 10 };
let about = await ask("api/about", {}).catch(() => UNKNOWN);
const watch = new Watch({ about, onClose: () => go(questionOf(here())) });
// What was found, by video: its title and how likely it is.
const known = new Map();
const filters = new Filters({ onChange: () => narrow() });
const indexing = new Indexing({ onDone: refresh });
const adding = new Adding({ about, onAdded: () => indexing.look() });
let asking = new AbortController();
// The question whose answer the list shows, the scale of its curves, and the video that the player was opened on: its card is come back to.
let answered = null;
let scale = null;
let opened = null;
let openedAt = 0;

function go(place) {
  if (address(place) === address(here())) return render();
  history.replaceState({ ...history.state, scroll: scrollY }, "");
  history.pushState({}, "", address(place));
  render();
  if (place.video) scrollTo(0, 0);
}

async function render() {
  const place = here();
  const question = questionOf(place);
  const asked = isAsked(question);
  document.body.dataset.view = place.video ? "watch" : asked || question.where ? "results" : "home";
  name(place);
  at("sentence").value = question.q;
  at("where").value = question.where;
  filters.follow();
  showSorting(question, asked);
  showAdditions(question, go);
  showSenses(place, about.texts);
  if (question.where) openConditions(true);
  if (place.video) watch.show(place, toldOf(place));
  else watch.close();
  mark(place.video);
  await fill(question, asked, place);
  // What is shown by now; a link may lead to a video before anything is known of it.
  name(here());
  if (here().video) watch.learn(toldOf(here()));
  if (!place.video && opened) comeBack();
  if (place.video && place.video !== opened) openedAt = Number(place.at) || 0;
  opened = place.video || null;
}

function name(place) {
  const title = place.video ? toldOf(place).title : "";
  document.title = [title, place.q || place.where, "prvr"].filter(Boolean).join(" · ");
}

// How well a video fits, and the scale of its curve, belong to the question that was answered.
function toldOf(place) {
  const video = known.get(place.video) ?? {};
  const fits = answered === JSON.stringify(questionOf(place)) ? { fit: longFitOf(video), scale } : {};
  return { title: video.title ?? titleOf(place.video), notes: notesOf(video), ...fits };
}

async function fill(question, asked, place) {
  if (answered === JSON.stringify(question)) return;
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  known.clear();
  scale = null;
  // In another order alone, the cards stay until the answer is there.
  const isOther = !answered || JSON.stringify({ ...JSON.parse(answered), sort: question.sort }) !== JSON.stringify(question);
  answered = JSON.stringify(question);
  const waiting = isOther && setTimeout(() => show({ title: "", items: ghosts(8) }), PATIENCE);
  try {
    if (asked) await showHits(question, place, signal);
    else await showVideos(question, place, signal);
    mark(here().video);
    if (history.state?.scroll && !here().video) scrollTo(0, history.state.scroll);
  } catch (problem) {
    if (problem.name === "AbortError") return;
    answered = null;
    const again = make("button", { type: "button", onclick: () => render() }, "Try again");
    show({ title: "That did not work", items: [], notice: [make("p", {}, problem.message), problem instanceof Refusal ? again : null] });
    at("spoken").textContent = problem.message;
    if (!(problem instanceof Refusal)) throw problem;
  } finally {
    clearTimeout(waiting);
  }
}

async function showHits(question, place, signal) {
  const where = conditionsOf(question.where);
  const given = { k: HITS, where, moments: Boolean(question.moments) };
  const { hits, seconds, note, more: furtherHits } = await askQuestion("api/search", question, given, signal);
  signal.throwIfAborted();
  const rate = about.similar && !question.then.length ? rateHit : null;
  scale = hits.length ? scaleOf(hits) : null;
  const cards = (some, first) => {
    for (const hit of some) if (!known.has(hit.video)) known.set(hit.video, hit);
    return some.map((hit, n) => hitCard(hit, first + n + 1, place, scale, rate));
  };
  // Each hit with its card, the best first.
  const found = [];
  const take = (some) => {
    const made = cards(some, found.length);
    found.push(...some.map((hit, n) => [hit, made[n]]));
    return made;
  };
  take(hits);
  const thing = question.moments ? "moment" : "video";
  const title = titleOfQuestion(question);
  const isWeak = hits.every((hit) => hit.weak);
  const items = arrange(found, question.sort);
  const none = make("p", {}, where.length ? "No video meets these conditions." : question.like ? "The index holds no other video." : "The index holds no videos.");
  show({ title, took: `${countOf(hits.length, thing)} in ${Math.round(1000 * seconds)} ms`, items, notice: [hits.length ? null : none, note ? make("p", {}, `Note: ${note}.`) : null] });
  const best = hits[0];
  at("more").hidden = !furtherHits;
  at("more").onclick = more(hits.length, async (count) => {
    const next = await askQuestion("api/search", question, { ...given, offset: count }, signal);
    const items = take(next.hits);
    return { items, all: arrange(found, question.sort), isLast: !next.more };
  });
  const doubt = !best ? "" : best.probability !== null && best.probability < 0.5 ? `the best video is ${percent(best.probability)} likely to` : isWeak ? "sentences about anything else reach as much here" : "";
  at("doubt").hidden = !doubt;
  at("doubt").textContent = doubt ? `Probably nothing here matches: ${doubt}. These are the nearest.` : "";
  if (here().video) return;
  at("spoken").textContent = best ? `${countOf(hits.length, thing)} found. The best is ${best.title}.` : "Nothing was found.";
}

async function showVideos(question, place, signal) {
  const where = conditionsOf(question.where);
  const sort = question.sort || "name";
  const { total, videos } = await ask("api/videos", { limit: PAGE, where, sort }, signal);
  signal.throwIfAborted();
  const empty = where.length
    ? [make("p", {}, "No video meets these conditions.")]
    : [make("p", {}, "There are no videos yet."), make("p", {}, about.writable ? "Drop some on this page, or add them above." : "Index a folder on this machine: prvr index VIDEOS INDEX")];
  const title = where.length ? `Videos with ${where.join(" and ")}` : "All videos";
  show({ title, took: where.length ? countOf(total, "video") : "", items: cardsOf(videos, place), notice: total ? [] : empty });
  if (where.length && !here().video) at("spoken").textContent = `${countOf(total, "video")} found.`;
  at("more").hidden = videos.length >= total;
  at("more").onclick = more(videos.length, async (count) => {
    const next = await ask("api/videos", { limit: PAGE, where, sort, offset: count }, signal);
    return { items: cardsOf(next.videos, place), isLast: count + next.videos.length >= next.total || next.videos.length === 0 };
  });
}

// What a click on "Show more" does; another one while it is awaited would bring the same videos twice.
function more(count, read) {
  let waiting = false;
  return async () => {
    if (waiting) return;
    waiting = true;
    try {
      const { items, all = null, isLast } = await read(count);
      notice([]);
      if (all) list.replaceChildren(...all);
      else list.append(...items);
      items[0]?.querySelector("a").focus({ preventScroll: true });
      count += items.length;
      at("more").hidden = isLast;
    } catch (problem) {
      if (problem.name === "AbortError") return;
      notice([make("p", { role: "alert" }, problem.message)]);
      if (!(problem instanceof Refusal)) throw problem;
    } finally {
      waiting = false;
    }
  };
}

function cardsOf(videos, place) {
  for (const video of videos) known.set(video.video, { title: video.title });
  return videos.map((video) => videoCard(video, place));
}

function show({ title, took = "", items, notice: said = [] }) {
  at("results-title").textContent = title;
  at("took").textContent = took;
  // Who was at a card stays at that video.
  const { video, at: seconds } = list.contains(document.activeElement) ? document.activeElement.closest("li").dataset : {};
  list.replaceChildren(...items);
  if (video) nearestCard(video, Number(seconds) || 0)?.querySelector("a").focus({ preventScroll: true });
  notice(said.filter(Boolean));
  at("doubt").hidden = at("more").hidden = true;
  at("sorting").hidden = items.length < 2;
}

function notice(said) {
  at("notice").replaceChildren(...said);
  at("notice").hidden = said.length === 0;
}

function mark(video) {
  const nearest = video ? nearestCard(video, Number(here().at) || 0) : undefined;
  for (const card of list.children) {
    const current = card === nearest;
    card.classList.toggle("current", current);
    if (current) card.firstChild.setAttribute("aria-current", "true");
    else card.firstChild?.removeAttribute?.("aria-current");
  }
}

// Several cards may be moments of one video: the one that is nearest to a time is meant.
function nearestCard(video, seconds) {
  const away = (card) => Math.abs(Number(card.dataset.at ?? 0) - seconds);
  return [...list.children].filter((card) => card.dataset.video === video).sort((one, other) => away(one) - away(other))[0];
}

function comeBack() {
  // Who has asked something else meanwhile stays in the box.
  if (at("ask").contains(document.activeElement)) return;
  const card = nearestCard(opened, openedAt);
  (card?.querySelector("a") ?? at("results-title")).focus({ preventScroll: true });
  if (history.state?.scroll) scrollTo(0, history.state.scroll);
  else card?.scrollIntoView({ block: "nearest" });
}

function openConditions(open) {
  at("conditions").hidden = !open;
  at("narrow").setAttribute("aria-expanded", String(open));
}

function step(by) {
  const cards = [...list.children].filter((card) => card.dataset.video);
  const place = cards.findIndex((card) => card.classList.contains("current"));
  cards[place + by]?.querySelector("a").click();
}

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const [q, where] = [at("sentence").value.trim(), at("where").value.trim()];
  const { picture } = here();
  const moments = at("moments").checked ? "true" : "";
  // Without a sentence the list of all videos is narrowed, or whole again.
  if (q || picture || where || here().where) go(questionOf({ q, picture, moments, in: chosenSense(), where, sort: here().sort, ...additions() }));
  else at("sentence").focus();
});

// The question with what was written meanwhile and not sent.
const written = () => questionOf({ ...here(), q: at("sentence").value, in: chosenSense(), ...additions() });

// The same question, of the videos that the filters leave.
function narrow() {
  const where = at("where").value.trim();
  if (where !== here().where) go({ ...written(), where });
}

// The index has changed: what is shown may have, too.
async function refresh(report) {
  // Its numbers may be of the last of several updates, one after another: they do not say that nothing is new.
  adding.settle(report);
  about = await ask("api/about", {}).catch(() => about);
  watch.about = about;
  tellAbout();
  filters.read();
  answered = null;
  showSenses(here(), about.texts);
  if (!here().video) await render();
}

function tellAbout() {
  at("about").textContent = about.version ? countOf(about.videos, "video") : "";
  const words = (name) => name.replaceAll("_", "-");
  at("service").textContent = about.version ? `prvr ${about.version}, ${countOf(about.videos, "video")}; ranked by ${words(about.method)} on ${words(about.frames)}.` : "";
}

// A thumb on a hit changes the question; the same one again takes it back.
function rateHit(name, moment) {
  const question = questionOf(here());
  const other = name === "more" ? "less" : "more";
  const pressed = question[name].includes(moment);
  question[other] = question[other].filter((one) => one !== moment);
  question[name] = pressed ? question[name].filter((one) => one !== moment) : [...question[name], moment];
  go({ ...questionOf(question), video: here().video, at: here().at });
}

function addPicture(file) {
  if (!file?.type.startsWith("image/")) return false;
  const moments = at("moments").checked ? "true" : "";
  go(questionOf({ q: at("sentence").value, where: at("where").value, moments, ...additions(), picture: keepPicture(file) }));
  return true;
}

at("add-sentence").addEventListener("click", () => addSentence());
at("add-picture").addEventListener("click", () => at("picture-file").click());
at("picture-file").addEventListener("change", () => {
  addPicture(at("picture-file").files[0]);
  at("picture-file").value = "";
});
at("moments").addEventListener("change", () => {
  const question = questionOf({ ...here(), moments: at("moments").checked ? "true" : "" });
  if (isAsked(question)) go(question);
});
at("sense").addEventListener("change", () => {
  if (isAsked(questionOf(here()))) go(written());
});
document.addEventListener("paste", (event) => {
  if (addPicture(event.clipboardData?.files[0])) event.preventDefault();
});
document.addEventListener("dragover", (event) => {
  if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
});
document.addEventListener("drop", (event) => {
  const files = [...(event.dataTransfer?.files ?? [])];
  if (!files.length) return;
  event.preventDefault();
  // One picture is a question; everything else is to be added.
  if (files.length > 1 || !addPicture(files[0])) adding.take(files);
});
at("sort").addEventListener("change", () => go({ ...written(), sort: at("sort").value, video: here().video, at: here().at }));
at("narrow").addEventListener("click", () => {
  openConditions(at("conditions").hidden);
  if (!at("conditions").hidden) at("in-folder").focus();
});
at("keys").addEventListener("click", () => at("help").showModal());

// Links to a place of this page are followed here; with a key held down, or to anywhere else, the browser does it.
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (!link || event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || event.button) return;
  const target = new URL(link.href);
  if (target.origin !== location.origin || target.pathname !== location.pathname || target.hash || link.download) return;
  event.preventDefault();
  go(placeOf(target.search));
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || at("help").open) return;
  const inside = event.target.closest?.("input, textarea, select, button, a, video, [role=slider]");
  if (event.key === "Escape" && here().video) go(questionOf(here()));
  else if (event.target.closest?.("input, textarea, select")) return;
  else if (event.key === "/") at("sentence").select();
  else if (event.key === "?") at("help").showModal();
  else if (event.key === "n" && here().video) step(1);
  else if (event.key === "p" && here().video) step(-1);
  else if ((inside && (event.key === " " || event.key.startsWith("Arrow"))) || !watch.key(event.key)) return;
  event.preventDefault();
});

addEventListener("popstate", render);
history.scrollRestoration = "manual";
tellAbout();
filters.read();
indexing.look();
await render();
document.body.classList.add("ready");
