"""Acting: the behaviour policy steps environments and collects unrolls (IMPALA, section 3)."""
