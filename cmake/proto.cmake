# C sources of proto/renga.proto, made when the project is built: rg_proto.
set(proto_out ${CMAKE_BINARY_DIR}/proto)
add_custom_command(
    OUTPUT ${proto_out}/renga.pb-c.c ${proto_out}/renga.pb-c.h
    COMMAND ${CMAKE_COMMAND} -E make_directory ${proto_out}
    COMMAND ${PROTOC_C} --c_out=${proto_out} -I ${CMAKE_SOURCE_DIR}/proto
            ${CMAKE_SOURCE_DIR}/proto/renga.proto
    DEPENDS ${CMAKE_SOURCE_DIR}/proto/renga.proto)
add_library(rg_proto STATIC ${proto_out}/renga.pb-c.c)
target_include_directories(rg_proto SYSTEM PUBLIC ${proto_out})
target_compile_options(rg_proto PRIVATE -w)
target_link_libraries(rg_proto PUBLIC PkgConfig::PROTOBUFC)
