"""The capstone: one product designed end to end. The only package that stands above the chapters and imports theirs."""
