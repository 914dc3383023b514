"""Every decoder of strangers' bytes, fed what no honest party sends.

Reading order: `decoders` lists them, `mutations` changes inputs by their form, `kept` has the inputs that are
kept, `seeds` records a real market's messages, `campaign` searches for minutes with atheris. `test_routes` asks
every route by the description of the HTTP surface.
"""
