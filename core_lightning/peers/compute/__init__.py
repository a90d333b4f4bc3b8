"""What multiplies: products, attention, norms, adapters, head and cache. All private operators and patches live here."""
