/**
 * Validates the form for a new report while the user types: counts the URLs in the text box and in a text file, and
 * names the lines that are not URLs. The server validates again by the same rules (url_list.py).
 */

const MAX_URLS = 1000;
const MAX_URL_LENGTH = 2000;
const MAX_LISTED_LINES = 5;
const MAX_FILE_BYTES = 3 * 1024 * 1024;
const TYPING_PAUSE_MS = 150;
/** In the storage of the tab: who sent the form last, with which URLs and title, until a report is shown (live.js). */
const DRAFT_KEY = "report-draft";

const textBox = document.querySelector(".paste textarea");
const textStatus = document.getElementById("count");
const form = textBox?.form;
const samplesForm = document.getElementById("samples");
const fileInput = document.querySelector(".paste input[type=file]");
const fileStatus = document.getElementById("file-count");
const strings = JSON.parse(document.getElementById("paste-strings")?.textContent ?? "{}");
const language = document.documentElement.lang;
const numberFormat = new Intl.NumberFormat(language);
const pluralRules = new Intl.PluralRules(language);

if (textBox && textStatus) {
  restoreDraft();
  let timer;
  textBox.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(validateText, TYPING_PAUSE_MS);
  });
  // The server's errors for the same text are already shown.
  if (!textBox.closest(".wrong")) validateText();
}

fileInput?.addEventListener("change", validateFile);

form?.addEventListener("submit", (event) => {
  if (fileInput.files[0]?.size > MAX_FILE_BYTES) {
    event.preventDefault(); // The server would refuse it after the upload, a very large one without this page.
    fileInput.focus();
    return;
  }
  storeDraft();
});

samplesForm?.addEventListener("submit", (event) => {
  event.preventDefault();
  appendUrls(samplesForm.dataset.urls.split(" "));
});

function storeDraft() {
  try {
    sessionStorage.setItem(DRAFT_KEY, JSON.stringify([readUser(), textBox.value, form.elements.title.value]));
  } catch {
    // Storage is blocked or full.
  }
}

/** Fill in what was sent after the session had ended: the sign-in leads to an empty form. */
function restoreDraft() {
  try {
    const [user, urls, title] = JSON.parse(sessionStorage.getItem(DRAFT_KEY)) ?? [];
    sessionStorage.removeItem(DRAFT_KEY);
    if (user === readUser() && !textBox.value) [textBox.value, form.elements.title.value] = [urls, title];
  } catch {
    // Storage is blocked.
  }
}

function readUser() {
  return document.querySelector(".username").title;
}

/** Append URLs to what the user has typed. */
function appendUrls(urls) {
  const typed = textBox.value.trimEnd();
  textBox.value = (typed ? [typed, ...urls] : urls).join("\n");
  textBox.focus();
  textBox.setSelectionRange(0, 0);
  textBox.scrollTop = 0;
  validateText();
}

function validateText() {
  showStatus(textStatus, textBox.value);
}

async function validateFile() {
  const file = fileInput.files[0];
  showStatus(fileStatus, "");
  if (!file) return;
  if (file.size > MAX_FILE_BYTES) {
    const size = Math.ceil(file.size / 100_000) / 10;
    fileStatus.textContent = translate("file_too_large", { size });
    fileStatus.classList.add("bad");
  } else if (/\.txt$/i.test(file.name)) {
    const text = await file.text();
    if (file === fileInput.files[0]) showStatus(fileStatus, text);
  }
}

function showStatus(node, text) {
  const { urlCount, wrongLines } = parse(text);
  const isEmpty = urlCount === 0 && wrongLines.length === 0;
  const sentences = isEmpty ? [] : [describeCount(urlCount), describeWrongLines(wrongLines)];
  node.textContent = sentences.filter(Boolean).join(" ");
  node.classList.toggle("bad", wrongLines.length > 0 || urlCount > MAX_URLS);
}

/** @returns {{urlCount: number, wrongLines: number[]}} wrongLines: the numbers of the lines that are not URLs */
function parse(text) {
  let urlCount = 0;
  const wrongLines = [];
  for (const [index, line] of text.split(/\r\n|\r|\n/).entries()) {
    const url = line.trim();
    if (!url) continue;
    if (isUrl(url)) urlCount += 1;
    else wrongLines.push(index + 1);
  }
  return { urlCount, wrongLines };
}

function isUrl(text) {
  // \p{Cc}: control characters.
  if (text.length > MAX_URL_LENGTH || !/^https?:\/\/[^\s\p{Cc}]+$/iu.test(text)) return false;
  return URL.canParse(text) && Boolean(new URL(text).hostname);
}

function describeCount(count) {
  const sentence = translate(pluralRules.select(count) === "one" ? "urls_one" : "urls_many", { count });
  return count > MAX_URLS ? `${sentence} ${translate("too_many", { limit: MAX_URLS })}` : sentence;
}

function describeWrongLines(lines) {
  if (lines.length === 0) return "";
  if (lines.length === 1) return translate("wrong_line", { line: lines[0] });
  const listed = lines.slice(0, MAX_LISTED_LINES).map(String).join(", ");
  const more = lines.length - MAX_LISTED_LINES;
  if (more <= 0) return translate("wrong_lines", { lines: listed });
  return translate("wrong_lines_more", { lines: listed, count: more });
}

/** Return a text of client_strings.py with its {placeholders} filled in, numbers in the language of the page. */
function translate(key, values) {
  return strings[key].replace(/\{(\w+)\}/g, (_placeholder, name) => {
    const value = values[name];
    return typeof value === "number" ? numberFormat.format(value) : value;
  });
}
