// The texts of a job, as the server writes them in the pages of jobs.

/**
 * @typedef {import("./client.js").JobItem} JobItem
 * @typedef {import("./localization.js").Localization} Localization
 */

const DAY_MS = 24 * 60 * 60_000;
/** Earlier, one slow step would make the estimate of a pace meaningless. */
const MIN_PACE_SECONDS = 5;

/**
 * Return the texts of a job, by the names of the parts that show them.
 * @param {JobItem} item
 * @param {import("./localization.js").Localization} localization
 */
export function describeJob(item, localization) {
  const state = formatState(item, localization);
  const { current = 0, total = null, message = "" } = item.progress ?? {};
  const progress =
    item.state === "running" && total !== null ? localization.text("of", { current, total }) : "";
  const attempts = { attempt: item.attempt, most: item.max_attempts };
  const attempt = item.attempt > 1 ? localization.text("attempt", attempts) : "";
  const reason = item.state === "failed" && (item.error?.detail || item.error?.title);
  const outcome = reason || (item.state === "queued" ? "" : message);
  const text = [state, outcome, progress, attempt].filter(Boolean).join(" · ");
  const elapsed = formatElapsed(item, localization);
  const pace = formatPace(item, localization);
  return { state, progress, attempt, outcome, text, elapsed, pace };
}

/**
 * Return for how long a job has been running, as `describe_elapsed()` does on the server, or "".
 * @param {JobItem} item
 * @param {Localization} localization
 */
export function formatElapsed({ state, started_at }, localization) {
  if (state !== "running" || !started_at) return "";
  return localization.formatSpan(Math.max(0, localization.secondsSince(started_at)), "running", Math.trunc);
}

/**
 * Return the word for the state of a job, as `describe_state()` does on the server.
 * @param {JobItem} item
 * @param {Localization} localization
 */
export function formatState({ state, attempt, run_after }, localization) {
  const start = state === "queued" && attempt > 0 && run_after ? Date.parse(run_after) : 0;
  if (start <= localization.now()) return localization.text(state);
  const format = start - localization.now() < DAY_MS ? localization.time : localization.dateTime;
  return localization.text("retry_at", { time: format.format(start) });
}

/**
 * Return how fast a job advances and how long it will still take, as `describe_pace()` does on the server, or "".
 * @param {JobItem} item
 * @param {Localization} localization
 */
export function formatPace({ state, attempt, started_at, progress }, localization) {
  const { current = 0, total = null } = progress ?? {};
  if (state !== "running" || attempt !== 1 || !started_at || !current || total === null) return "";
  const elapsed = localization.secondsSince(started_at);
  if (current >= total || elapsed < MIN_PACE_SECONDS) return "";
  const perSecond = current / elapsed;
  const rate =
    perSecond >= 1
      ? localization.text("per_second", { count: round(perSecond) })
      : localization.text("per_minute", { count: round(perSecond * 60) });
  const time = localization.formatSpan((total - current) / perSecond, "left", (count, unit) =>
    unit === "hours" ? round(count) : Math.max(1, Math.round(count)),
  );
  return localization.text("pace", { rate, time });
}

/** @param {number} number without decimals from 10 on, else with at most one */
function round(number) {
  return number >= 10 ? Math.round(number) : Math.round(number * 10) / 10;
}
