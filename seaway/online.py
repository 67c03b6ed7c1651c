"""x"""
INPUT_PREFIX = "input__"
