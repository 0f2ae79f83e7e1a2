"""Side-by-side measurements of smtplite and other SMTP servers: ``python -m benchmarks``. Linux only (epoll, /proc)."""
