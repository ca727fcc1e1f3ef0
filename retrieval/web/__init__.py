"""The page: search in a browser, and what keeps its server alive among bad input and bad clients."""
