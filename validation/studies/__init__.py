"""Long-context studies: what Llama 3.1's position encoding does to a model, measured in the fork.

Each study is a module that measures, in plain TransformerLens and to be copied from, and one that
says and draws what was found. What they share: `laboratory.py` (model and text), `study.py` (units
of work, resumed), `estimates.py` (uncertainty), `page.py` and `drawing.py` (what people read).
"""
