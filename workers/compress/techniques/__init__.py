"""The programs that make variants: a folder of weights in, a folder of weights out.

Each runs in a process of its own (workers/compress/program.py), which gives its memory back; those of llmcompressor run
in an environment of their own, so that nothing here imports more of this project than workers/compress/told.py.
"""
