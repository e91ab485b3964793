"""Repeats are answered from what is kept, and those in flight share one generation.

`repeats` says which requests repeat, `digest` names their question, `answers` keeps answers in Redis (`kept` is their
form) and `local` a few of them in this process. `single_flight` lets requests share, by `flight` in one process and by
`claims` over several; `replay` sends an answer again.

For keys that ask for it, `semantic` finds the answer to a similar question: `question` says what may be compared,
`embedder` makes a text a vector, `questions` keeps vectors in Redis and searches them, `wording` has the last word.
"""
