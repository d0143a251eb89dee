# The CPU backend: common code, the scalar reference, and one library per instruction set, compiled
# with that set's flags.  backend.c chooses at start by what the CPU has.
file(GLOB cpu_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/compute/cpu/*.c
     ${CMAKE_SOURCE_DIR}/src/compute/cpu/scalar/*.c)
if(cpu_sources)
    target_sources(rg_compute PRIVATE ${cpu_sources})
endif()
file(GLOB avx2_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/compute/cpu/avx2/*.c)
if(avx2_sources AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    add_library(rg_compute_avx2 OBJECT ${avx2_sources})
    target_link_libraries(rg_compute_avx2 PUBLIC rg_checkpoint)
    target_compile_options(rg_compute_avx2 PRIVATE -O3 -mavx2 -mfma -mf16c -mbmi2)
    target_sources(rg_compute PRIVATE $<TARGET_OBJECTS:rg_compute_avx2>)
    target_compile_definitions(rg_compute PRIVATE RG_HAVE_AVX2=1)
endif()
# fma(), sqrt() and floor() where the compiler has no instruction for them
target_link_libraries(rg_compute PUBLIC m)
target_compile_options(rg_compute PRIVATE $<$<CONFIG:Release>:-O3>)
