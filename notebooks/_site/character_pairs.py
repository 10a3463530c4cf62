"""Search in Chinese text: every pair of neighbouring characters is a word of the index.

Sphinx cuts Chinese with a dictionary, which does not know this course's terms (共享专家 is not found), and
its Chinese search fails in the browser in Sphinx 9.0 (sphinx-doc/sphinx issue 14229). Pairs need no
dictionary and find every phrase. The browser cuts a query in the same way.
"""

import re
from collections.abc import Iterator

import snowballstemmer
from sphinx.search import SearchLanguage

RUNS = re.compile(r"[\u3400-\u9fff]+|[A-Za-z0-9_]+")
FIRST_CHINESE = "\u3400"


class CharacterPairs(SearchLanguage):
    """Chinese by pairs of characters; Latin words by their stem, as in the English search."""

    lang = "zh"
    language_name = "English"  # names the stemmer of the browser
    js_stemmer_rawcode = "english-stemmer.js"
    js_splitter_code = r"""
function pairsOf(run) {
  if (run.length === 1 || run.charCodeAt(0) < 0x3400) return [run];
  const pairs = [];
  for (let i = 0; i < run.length - 1; i++) pairs.push(run.slice(i, i + 2));
  return pairs;
}
var splitQuery = (query) => (query.match(/[\u3400-\u9fff]+|[A-Za-z0-9_]+/g) || []).flatMap(pairsOf);
"""
    stemmer = snowballstemmer.stemmer("english")

    def split(self, text: str) -> Iterator[str]:
        """The words of a text for the index: Latin words, single Chinese characters, and pairs of them."""
        for run in RUNS.findall(text):
            if run[0] < FIRST_CHINESE:
                yield run
                continue
            yield from run
            for start in range(len(run) - 1):
                yield run[start : start + 2]

    def stem(self, word: str) -> str:
        """The stem of a Latin word; Chinese stays as it is."""
        return self.stemmer.stemWord(word.lower())

    def word_filter(self, word: str) -> bool:
        """Keep every word, also a single character."""
        return True
