"""How runs are SHOWN: figures and a page. The only folder that imports matplotlib; it changes no record."""
