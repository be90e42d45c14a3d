"""`bench poke`: a local page on which a picture is poked by hand and methods answer.

`predictors.py` has the methods, `scenes.py` the pictures, `answers.py` one poke and what a method showed, `saving.py`
files to keep, `session.py` all that one page holds, `guard.py` who may ask, `server.py` the HTTP interface, `assets/`
the page itself.
"""
