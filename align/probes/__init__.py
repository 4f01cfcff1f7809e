"""One probe per framework: how a model is built, cast, run and observed."""
