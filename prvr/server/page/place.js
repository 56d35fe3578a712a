// Where one is, as the page's address: a link to it shows the same, and the back button goes back.

const NAMES = ["q", "like", "t", "picture", "moments", "in", "where", "sort", "video", "at"];
export const LISTS = ["then", "also", "without", "more", "less"];

export function placeOf(search) {
  const query = new URLSearchParams(search);
  const lists = LISTS.map((name) => [name, query.getAll(name)]);
  return Object.fromEntries([...NAMES.map((name) => [name, query.get(name) ?? ""]), ...lists]);
}

export const here = () => placeOf(location.search);

export function address(place) {
  const query = new URLSearchParams(NAMES.filter((name) => place[name]).map((name) => [name, place[name]]));
  for (const name of LISTS) for (const one of place[name] ?? []) query.append(name, one);
  return query.size ? `?${query}` : location.pathname;
}

export function questionOf(place) {
  const { q = "", like = "", t = "", picture = "", moments = "", in: sense = "", where = "", sort = "" } = place;
  const lists = LISTS.map((name) => [name, (place[name] ?? []).map((one) => one.trim()).filter(Boolean)]);
  return { q: q.trim(), like, t: like ? t || "0" : "", picture, moments, in: isOneSentence(place) ? sense : "", where: where.trim(), sort, ...Object.fromEntries(lists), video: "", at: "" };
}

// Whether a question is a sentence and nothing else: only that can be looked for in what is said or written.
export const isOneSentence = (place) => Boolean(place.q?.trim()) && !["like", "picture", "moments"].some((name) => place[name]) && !LISTS.some((name) => place[name]?.some((one) => one.trim()));

export const isAsked = ({ q, like, picture }) => Boolean(q || like || picture);
export const watching = (place, video, seconds) => ({ ...questionOf(place), video, at: seconds ? seconds.toFixed(2) : "" });
export const conditionsOf = (where) => where.split(";").map((one) => one.trim()).filter(Boolean);
