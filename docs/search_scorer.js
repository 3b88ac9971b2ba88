// Sphinx ranks most pages that have the words of a search alike, and lists those by name. How-to guides come first here,
// and pages about the project itself come last.
var Scorer = {
  score: ([page, _title, _anchor, _description, score]) =>
    score +
    (/^how-to\/(?!from-)|^tutorial\//.test(page) ? 2 : 0) -
    (/^explanation\/(architecture|comparison|measured|site)$/.test(page) ? 2 : 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 1,
};
