/** After a form was answered: moves the focus to what it was answered with. */
document.querySelector("[data-focus]")?.focus();
