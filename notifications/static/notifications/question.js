// Loads the page of a question, or of a job, again when what its job waits for has changed: it was answered in another
// place, or the job asks. The page then shows who has answered what, or the question.

/** @typedef {import("./client.js").Change} Change */

async function watchQuestion() {
  const shown = /** @type {HTMLElement|null} */ (document.querySelector("[data-notifications-waiting]"));
  const page = /** @type {{notifications?: {ready: Promise<any>}}} */ (globalThis);
  if (!shown || !page.notifications) return;
  const { notificationsWaiting, job, version } = shown.dataset;
  const { client } = await page.notifications.ready;
  client.on("change", (/** @type {Change} */ { jobs, notifications }) => {
    const isAnswered = notifications.some(
      ({ data: { question } }) => question?.id === notificationsWaiting && question?.ended,
    );
    const item = jobs.find(({ id }) => id === job);
    // Pauses may be many and short. The end of a job loads its page by itself.
    const asked = item?.waiting?.kind === "question" ? item.waiting.id : "";
    const isNewer = item && !item.done && item.version > Number(version);
    if (isAnswered || (isNewer && asked !== notificationsWaiting)) location.reload();
  });
}

void watchQuestion();

export {};
