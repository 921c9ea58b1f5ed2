"""What the `ner` handler is made of.

A text goes through four steps, each of them a function of plain values:

    rules.find_all        candidates of every label, from patterns: `contact`, `amounts`, `dates`, `times`, `phones` and
                          `identifiers`
    heuristics.find_names guesses of PERSON, ORG and GPE, only when asked for
    models.find_entities  what a spaCy pipeline says, only when there is one
    merge.merge           at most one entity per character; checked facts win over guesses

`recipe` puts them together. `numbers`, `months` and `validate` decide what a matched span means and whether it can be
true. `spans` holds the one shape that all exchange, and the white space that a span may contain.

Every pattern is bounded (no `+` or `*` over a class that the rest of the pattern can match again, and a lookbehind
that admits a start only at a word's edge), so that the time is proportional to the length of the text whatever it
says; documents come from strangers.
"""
