"""Find clips by text or by sound: an index of a manifest's embeddings, and exact search in it."""
