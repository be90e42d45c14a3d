"""One self-contained HTML file of tables, videos and provenance, made from stored records."""
