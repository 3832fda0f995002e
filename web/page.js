"use strict";
// The query stands in the address; a photo cannot, so its file is kept here under a number that the history holds.

const FIELDS = ["name", "text", "category", "max_price", "near", "within"];
const MAX_PHOTO_BYTES = 10_000_000;
const PHOTO_LOST = "This search had a photo, which an address cannot hold: add it again.";
const photos = new Map();
const byId = (id) => document.getElementById(id);
const pounds = (number, digits = 2) =>
  number.toLocaleString("en-GB", { style: "currency", currency: "GBP", minimumFractionDigits: digits, maximumFractionDigits: digits });
const about = (number) => pounds(number, number < 10 ? 2 : 0); // of an estimate
const sentence = (text) => text[0].toUpperCase() + text.slice(1);
let photo = null;
let product = "";
let running = new AbortController();

// An element with a class and children; texts become text, never markup.
function element(name, className, ...children) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...children);
  return made;
}

function drawing(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function choosePhoto(file) {
  byId("photo").value = "";
  if (file && file.size > MAX_PHOTO_BYTES) {
    byId("fault").textContent = `${file.name} has more than 10 MB: choose a smaller photo.`;
    return false;
  }
  byId("fault").textContent = "";
  photo = file;
  if (byId("preview").src) URL.revokeObjectURL(byId("preview").src);
  if (file) byId("preview").src = URL.createObjectURL(file);
  else byId("preview").removeAttribute("src");
  byId("preview").hidden = byId("remove-photo").hidden = !file;
  byId("photo-name").textContent = file ? file.name : "Drop a photo here.";
  return true;
}

function chooseProduct(id, name) {
  product = id;
  byId("like").hidden = !id;
  byId("like-name").textContent = id ? `Listings like “${name || id}”` : "";
}

// The fields of the form that have a value, for the address and for the API.
function query() {
  const values = FIELDS.map((name) => [name, byId(name).value.trim()]);
  return Object.fromEntries([...values, ["product", product]].filter(([, value]) => value !== ""));
}

async function ask(path, fields, signal) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value) body.append(name, value);
  let response, answer;
  try {
    response = await fetch(path, body.entries().next().done ? { signal } : { method: "POST", body, signal });
    answer = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer: start serve.py again.");
  }
  if (!response.ok) throw new Error(sentence(answer.error));
  return answer;
}

// One section of the page: asks the API, then shows the answer or the fault in place.
async function fill(name, wanted, fields, show, signal) {
  const section = byId(`${name}-answer`);
  const [fault, content] = [section.querySelector(".fault"), section.lastElementChild];
  section.hidden = !wanted;
  fault.textContent = "";
  section.setAttribute("aria-busy", wanted);
  if (!wanted) return content.replaceChildren();
  try {
    const answer = await ask(`/api/${name}`, fields, signal);
    content.replaceChildren(...show(answer));
    if (answer.message) fault.textContent = sentence(answer.message);
    return answer;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    content.replaceChildren();
    fault.textContent = error.message;
  } finally {
    if (!signal.aborted) section.setAttribute("aria-busy", "false");
  }
}

function showCategories(answer) {
  return answer.predictions.map(({ category, probability }) => {
    const bar = element("meter", "");
    bar.value = probability;
    bar.setAttribute("aria-label", category);
    return element("li", "", element("span", "", category), element("span", "", `${(100 * probability).toFixed(1)}%`), bar);
  });
}

// The interval on a logarithmic scale from £1 to £10,000.
function showPrice(answer) {
  const place = (price) => Math.min(100, Math.max(0, 25 * Math.log10(price)));
  const line = drawing("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", class: "interval", "aria-hidden": "true" });
  line.append(drawing("rect", { x: 0, width: 100, y: 4.7, height: 0.6, class: "scale" }));
  line.append(drawing("rect", { x: place(answer.low), width: place(answer.high) - place(answer.low), y: 3, height: 4, class: "range" }));
  line.append(drawing("rect", { x: place(answer.price) - 0.4, width: 0.8, y: 0, height: 10, class: "point" }));
  const ends = element("div", "ends small", ...[1, 10, 100, 1000, 10000].map((price) => element("span", "", pounds(price, 0))));
  ends.setAttribute("aria-hidden", "true");
  const where = [answer.category && `in ${answer.category}`, answer.location && `at ${answer.location}`].filter(Boolean);
  const between = `${(100 * answer.coverage).toFixed(0)}% of such listings: ${about(answer.low)} to ${about(answer.high)}`;
  const factors = answer.factors.map(({ feature, factor }) => element("li", "", `× ${factor.toFixed(2)} ${feature}`));
  return [
    element("p", "price", about(answer.price)), line, ends, element("p", "", between),
    element("p", "small", where.join(", ")), element("p", "", "Main factors:"), element("ul", "small", ...factors),
  ];
}

function showListing(listing, image) {
  const frame = element("div", "photo", "no photo");
  if (image) {
    const picture = element("img", "");
    picture.loading = "lazy";
    picture.alt = "";
    picture.src = `/photos/${encodeURIComponent(image)}`;
    picture.addEventListener("error", () => frame.replaceChildren("no photo"));
    frame.replaceChildren(picture);
  }
  const button = element("button", "", "More like this");
  button.type = "button";
  button.setAttribute("aria-label", `More like ${listing.product_name}`);
  button.addEventListener("click", () => {
    byId("name").value = byId("text").value = "";
    choosePhoto(null);
    chooseProduct(listing.id, listing.product_name);
    byId("rank-head").focus();
    search();
  });
  const place = listing.location + ("distance_km" in listing ? ` · ${listing.distance_km.toFixed(0)} km` : "");
  return element("li", "", frame, element("div", "words-of", element("h3", "", listing.product_name),
    element("p", "", pounds(listing.price)), element("p", "small", listing.category), element("p", "small", place), button));
}

const showRanking = (answer) => answer.results.map((listing) => showListing(listing, answer.photos[listing.id][0]));

async function run() {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  const { name, text, ...others } = query();
  const words = text ? { text, name } : { text: name };
  const described = Boolean(words.text || photo);
  const lost = new URLSearchParams(location.search).has("photo") && !photo;
  byId("fault").textContent = lost ? PHOTO_LOST : "";
  const anything = described || Boolean(product);
  byId("status").textContent = anything ? "Looking for the category, a price and listings …" : "";
  try {
    const [ranking] = await Promise.all([
      fill("rank", anything, { ...words, photo, ...others, top: 12 }, showRanking, signal),
      fill("price", Boolean(words.text), { ...words, category: others.category, location: others.near }, showPrice, signal),
      fill("category", described, { ...words, photo, top: 5 }, showCategories, signal),
    ]);
    if (ranking && product) chooseProduct(product, ranking.product_name);
    const count = ranking?.results.length;
    const said = count ? `The best ${count} of ${ranking.searched.toLocaleString("en-GB")} listings.` : ranking ? "No listings." : "";
    if (anything) byId("status").textContent = said;
  } catch (error) {
    if (error.name !== "AbortError") throw error; // a newer search has taken the place of this one
  }
}

// Puts the query of the form into the address, then runs it.
function search() {
  const fields = query();
  if (!fields.name && !fields.text && !fields.product && !photo) {
    byId("fault").textContent = "A text or a photo is required.";
    return;
  }
  const key = `${performance.timeOrigin} ${photos.size}`; // after a reload no key is that of an earlier photo
  if (photo) photos.set(key, photo);
  const address = new URLSearchParams(photo ? { ...fields, photo: photo.name } : fields);
  history.pushState({ photo: photo && key }, "", `?${address}`);
  run();
}

// Fills the form from the address, as a shared link or the back button gives it, and runs the query.
function restore() {
  const address = new URLSearchParams(location.search);
  for (const name of FIELDS) byId(name).value = address.get(name) || "";
  chooseProduct(address.get("product") || "", "");
  choosePhoto(photos.get(history.state?.photo) || null);
  run();
}

async function start() {
  byId("query").addEventListener("submit", (event) => { event.preventDefault(); search(); });
  byId("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); search(); }
  });
  byId("photo").addEventListener("change", ({ target: { files } }) => files[0] && choosePhoto(files[0]) && search());
  byId("remove-photo").addEventListener("click", () => { choosePhoto(null); byId("photo").focus(); });
  byId("remove-product").addEventListener("click", () => { chooseProduct("", ""); byId("text").focus(); });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    byId("drop").addEventListener(kind, (event) => {
      event.preventDefault();
      byId("drop").classList.toggle("over", kind === "dragover");
      const file = kind === "drop" && event.dataTransfer.files[0];
      if (file && choosePhoto(file)) search();
    });
  }
  for (const kind of ["dragover", "drop"]) {
    window.addEventListener(kind, (event) => {
      if (event.dataTransfer.types.includes("Files")) event.preventDefault(); // not opened; words may be dropped as ever
    });
  }
  window.addEventListener("popstate", restore);
  try {
    const { categories } = await ask("/health", {});
    byId("category").append(...categories.map((name) => element("option", "", name)));
  } catch (error) {
    byId("fault").textContent = error.message;
  }
  restore();
}

start();
