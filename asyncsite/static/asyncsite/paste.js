/**
 * The paste box: says how many URLs it holds and which lines are none, and is filled with the samples.
 * The file beside it: says the same of a text, and of any file that it is too big.
 * The server judges again, by the same rules; what this says is only sooner.
 */

const LIMIT = 1000;
const LENGTH = 2000;
const LINES_NAMED = 5;
const FILE_SIZE = 3 * 1024 * 1024;

const box = document.querySelector(".paste textarea");
const count = document.getElementById("count");
const samples = document.getElementById("samples");
const file = document.querySelector(".paste input[type=file]");
const fileCount = document.getElementById("file-count");

if (box && count) {
  let timer;
  box.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(show, 150);
  });
  // Errors that the server named speak first.
  if (!box.closest(".wrong")) show();
}

file?.addEventListener("change", showFile);

// A double click asks once.
const form = box?.form;
form?.addEventListener("submit", (event) => {
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "yes";
});
addEventListener("pageshow", () => delete form?.dataset.sent);

samples?.addEventListener("submit", (event) => {
  event.preventDefault();
  fill(samples.dataset.urls.split(" "));
});

/** What was typed stays: the samples follow it. */
function fill(urls) {
  const typed = box.value.trimEnd();
  box.value = (typed ? [typed, ...urls] : urls).join("\n");
  box.focus();
  box.setSelectionRange(0, 0);
  box.scrollTop = 0;
  show();
}

function show() {
  describe(count, box.value);
}

async function showFile() {
  const chosen = file.files[0];
  describe(fileCount, "");
  if (!chosen) return;
  if (chosen.size > FILE_SIZE) {
    const [size, most] = [chosen.size, FILE_SIZE].map((bytes) => bytes.toLocaleString("en"));
    fileCount.textContent = `The file has ${size} bytes; at most ${most} are possible.`;
    fileCount.classList.add("bad");
  } else if (/\.txt$/i.test(chosen.name)) {
    const text = await chosen.text();
    if (chosen === file.files[0]) describe(fileCount, text);
  }
}

function describe(place, text) {
  const { urls, wrong } = read(text);
  const empty = !urls && !wrong.length;
  place.textContent = empty ? "" : [describeCount(urls), describeWrong(wrong)].filter(Boolean).join(" ");
  place.classList.toggle("bad", wrong.length > 0 || urls > LIMIT);
}

/** @returns {{urls: number, wrong: number[]}} how many lines are URLs, and the numbers of those that are not */
function read(text) {
  let urls = 0;
  const wrong = [];
  text.split(/\r\n|\r|\n/).forEach((line, index) => {
    const url = line.trim();
    if (!url) return;
    if (isUrl(url)) urls += 1;
    else wrong.push(index + 1);
  });
  return { urls, wrong };
}

function isUrl(text) {
  if (text.length > LENGTH || !/^https?:\/\/[^\s\x00-\x20\x7f-\x9f]+$/i.test(text)) return false;
  try {
    return Boolean(new URL(text).hostname);
  } catch {
    return false;
  }
}

function describeCount(urls) {
  const words = urls === 1 ? "1 URL." : `${urls.toLocaleString("en")} URLs.`;
  return urls > LIMIT ? `${words} A report takes at most ${LIMIT.toLocaleString("en")}.` : words;
}

function describeWrong(lines) {
  if (!lines.length) return "";
  if (lines.length === 1) return `Line ${lines[0]} is not a URL.`;
  const named = lines.slice(0, LINES_NAMED).join(", ");
  const more = lines.length - LINES_NAMED;
  return `Lines ${named}${more > 0 ? ` and ${more.toLocaleString("en")} more` : ""} are not URLs.`;
}
