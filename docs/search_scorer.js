// Sphinx ranks most pages that have the words of a search alike, and lists those by name. How-to guides come first here,
// and pages about the project itself come last.
var Scorer = {
  score: ([page, _title, _anchor, _description, score]) =>
    score +
    (/^how-to\/(?!from-)|^tutorial\//.test(page) ? 2 : 0) -
    (/^explanation\/(architecture|comparison|measured)$/.test(page) ? 2 : 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 1,
};

// Sphinx finds an entry of the index (search_terms.py) only if the search is a part of it. Here a search finds those too
// whose words it has, in any order and among others: "can I keep my Celery workers" finds "keep Celery workers".
// Entries with rare words come first, and pages that have the other words too. A word that is on no page is left out,
// where Sphinx finds nothing.
const performSearch = Search._performSearch;
Search._performSearch = (query, searchTerms, ...parsed) => {
  const { docnames, filenames, indexentries, terms, titles, titleterms } = Search._index;
  const stemmer = new Stemmer();
  const stemsOf = (text) => splitQuery(text.toLowerCase()).map((word) => stemmer.stemWord(word));
  // Words that are not indexed, such as "not", are taken for frequent ones.
  const weigh = (stem) => Math.log(2 * docnames.length) - Math.log([terms[stem] ?? []].flat().length || docnames.length);
  const words = [...Object.keys(terms), ...Object.keys(titleterms)];
  const known = [...searchTerms].filter((stem) => words.some((word) => word.includes(stem)));
  const results = performSearch(query, new Set(known), ...parsed);
  const pages = new Set(results.map(([page]) => page));
  const queryStems = new Set(stemsOf(query));
  const found = new Map(); // by address, because the entries below a heading have one
  for (const [entry, places] of Object.entries(indexentries)) {
    const stems = stemsOf(entry);
    if (!stems.every((stem) => queryStems.has(stem))) continue;
    const weight = stems.reduce((sum, stem) => sum + weigh(stem), 0);
    for (const [file, id] of places.filter(([, , isMain]) => isMain)) {
      const [page, anchor] = [docnames[file], `#${id}`];
      const score = weight * (pages.has(page) ? 2 : 1);
      if (score > (found.get(page + anchor)?.[4] ?? 0))
        found.set(page + anchor, [page, titles[file], anchor, null, score, filenames[file], SearchResultKind.index]);
    }
  }
  // The best is the last.
  const best = [...found.values()].sort((a, b) => a[4] - b[4]);
  return [...results.filter(([page, , anchor]) => !found.has(page + anchor)), ...best];
};
