# The templates of `renga service` become arrays in the program, so that it needs no file at run
# time and config/ stays the one place where they are written.
set(service_templates ${CMAKE_BINARY_DIR}/generated/service_templates.c)
set(template_files "rg_service_template_launchd=${CMAKE_SOURCE_DIR}/config/org.renga.daemon.plist"
    "rg_service_template_newsyslog=${CMAKE_SOURCE_DIR}/config/renga.newsyslog.conf"
    "rg_service_template_systemd=${CMAKE_SOURCE_DIR}/config/renga.service")
add_custom_command(OUTPUT ${service_templates}
    COMMAND ${CMAKE_COMMAND} -DOUT=${service_templates} -DHEADER=cli/service_templates.h
            "-DFILES=${template_files}" -P ${CMAKE_SOURCE_DIR}/cmake/embed.cmake
    DEPENDS ${CMAKE_SOURCE_DIR}/cmake/embed.cmake ${CMAKE_SOURCE_DIR}/config/org.renga.daemon.plist
            ${CMAKE_SOURCE_DIR}/config/renga.newsyslog.conf ${CMAKE_SOURCE_DIR}/config/renga.service
    VERBATIM)
