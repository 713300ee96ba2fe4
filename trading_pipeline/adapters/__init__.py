"""The ports' implementations. Adapters and services are strangers; `bootstrap` introduces them."""
