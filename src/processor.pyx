"""Widest x86-64 level that this processor and operating system support."""

cdef extern from *:
    """
    #if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
    static int mc_processor_level(void)
    {
        __builtin_cpu_init();
        if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi")
              && __builtin_cpu_supports("bmi2")))
            return 0;
        if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
              && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
              && __builtin_cpu_supports("avx512vl")))
            return 1;
        return 2;
    }
    #else
    static int mc_processor_level(void) { return 0; }
    #endif
    #if defined(__VERSION__)
    static const char *mc_compiler(void) { return __VERSION__; }
    #else
    static const char *mc_compiler(void) { return "unknown"; }
    #endif
    """
    int mc_processor_level() noexcept nogil
    const char* mc_compiler() noexcept nogil


def level():
    """Index of the level: 0 baseline, 1 x86-64-v3 (AVX2, FMA), 2 x86-64-v4 (AVX-512)."""
    return mc_processor_level()


def compiler():
    """Version text of the compiler that built the kernels."""
    return mc_compiler().decode("ascii", "replace")
