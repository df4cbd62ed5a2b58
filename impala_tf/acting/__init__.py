"""Acting: the behavior policy steps environments and collects unrolls (IMPALA, section 3)."""
