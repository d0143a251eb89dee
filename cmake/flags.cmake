# Compiler flags of every target, carried by the interface library rg_flags.
add_library(rg_flags INTERFACE)
target_include_directories(rg_flags INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include)
target_compile_definitions(rg_flags INTERFACE _GNU_SOURCE RENGA_VERSION="${PROJECT_VERSION}")
target_compile_options(rg_flags INTERFACE
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes
    -Wformat=2 -Wvla -Wundef -fno-common
    # The canonical float order forbids contracting a*b+c behind our back (docs/ARCHITECTURE).
    -ffp-contract=off)
if(RENGA_FUZZ)
    target_compile_options(rg_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(RENGA_WERROR)
    target_compile_options(rg_flags INTERFACE -Werror)
endif()
if(RENGA_SANITIZE)
    target_compile_options(rg_flags INTERFACE -fsanitize=${RENGA_SANITIZE} -fno-omit-frame-pointer
                           -fno-sanitize-recover=all)
    target_link_options(rg_flags INTERFACE -fsanitize=${RENGA_SANITIZE})
elseif(CMAKE_BUILD_TYPE STREQUAL "Release")
    target_compile_options(rg_flags INTERFACE -fstack-protector-strong -D_FORTIFY_SOURCE=2)
    set(CMAKE_POSITION_INDEPENDENT_CODE ON)
    if(NOT APPLE)
        target_link_options(rg_flags INTERFACE -pie -Wl,-z,relro,-z,now)
    endif()
endif()
set(CMAKE_C_FLAGS_RELEASE "-O2")
