# FindLLHTTP - llhttp as a library (Homebrew, newer systems) or as the C sources that Debian's
# node-llhttp ships.  Defines LLHTTP::LLHTTP.
find_path(LLHTTP_INCLUDE_DIR llhttp.h PATH_SUFFIXES llhttp HINTS /usr/share/include)
find_library(LLHTTP_LIBRARY llhttp)
find_path(LLHTTP_SOURCE_DIR llhttp.c PATHS /usr/share/llhttp NO_DEFAULT_PATH
          NO_CMAKE_FIND_ROOT_PATH)
if(NOT LLHTTP_INCLUDE_DIR)
    find_path(LLHTTP_INCLUDE_DIR llhttp.h PATHS /usr/share/include/llhttp NO_DEFAULT_PATH
              NO_CMAKE_FIND_ROOT_PATH)
endif()

include(FindPackageHandleStandardArgs)
if(LLHTTP_LIBRARY)
    find_package_handle_standard_args(LLHTTP REQUIRED_VARS LLHTTP_LIBRARY LLHTTP_INCLUDE_DIR)
else()
    find_package_handle_standard_args(LLHTTP REQUIRED_VARS LLHTTP_SOURCE_DIR LLHTTP_INCLUDE_DIR
        REASON_FAILURE_MESSAGE "install llhttp (Homebrew) or node-llhttp (Debian)")
endif()

if(LLHTTP_FOUND AND NOT TARGET LLHTTP::LLHTTP)
    if(LLHTTP_LIBRARY)
        add_library(LLHTTP::LLHTTP UNKNOWN IMPORTED)
        set_target_properties(LLHTTP::LLHTTP PROPERTIES IMPORTED_LOCATION ${LLHTTP_LIBRARY}
                              INTERFACE_INCLUDE_DIRECTORIES ${LLHTTP_INCLUDE_DIR})
    else()
        add_library(llhttp_sources STATIC ${LLHTTP_SOURCE_DIR}/llhttp.c ${LLHTTP_SOURCE_DIR}/http.c
                    ${LLHTTP_SOURCE_DIR}/api.c)
        target_include_directories(llhttp_sources SYSTEM PUBLIC ${LLHTTP_INCLUDE_DIR})
        target_compile_options(llhttp_sources PRIVATE -w)
        set_target_properties(llhttp_sources PROPERTIES POSITION_INDEPENDENT_CODE ON)
        add_library(LLHTTP::LLHTTP ALIAS llhttp_sources)
    endif()
endif()
mark_as_advanced(LLHTTP_INCLUDE_DIR LLHTTP_LIBRARY LLHTTP_SOURCE_DIR)
