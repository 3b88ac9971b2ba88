/** Move the focus to the summary of a form's errors, or to its result. */
document.querySelector("[data-focus]")?.focus();
