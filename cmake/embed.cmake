# Writes OUT, a C file with each of FILES as a NUL-terminated array NAME, and nothing else:
#   cmake -DOUT=x.c -DHEADER=folder/x.h "-DFILES=name=path;name=path" -P embed.cmake
set(text "/* Made from the templates of config/ when this was built. */\n#include \"${HEADER}\"\n")
foreach(pair IN LISTS FILES)
    string(REGEX MATCH "^([^=]+)=(.*)$" matched "${pair}")
    set(name ${CMAKE_MATCH_1})
    file(READ ${CMAKE_MATCH_2} hex HEX)
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
    string(APPEND text "\nconst char ${name}[] = {${bytes}0};\n")
endforeach()
file(WRITE ${OUT} "${text}")
