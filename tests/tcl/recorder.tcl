# Runs a script (argument 1) in place of the vendor's shell and writes every call of a command that tclsh does not have
# to a file (argument 2): line, script, working folder, the call's words, each in base64. Argument 3 is a file that says
# what calls return: a line is a glob pattern for the call's words and the values, one a call, the last for all others;
# @last stands for the call's last word, and @touch with paths makes these files, as the tool's run does.
set recorder(self) [file normalize [info script]]
set recorder(script) [lindex $argv 0]
set recorder(file) [open [lindex $argv 1] w]
set recorder(answers) {}

proc recorder_load {path} {
    global recorder
    set file [open $path]
    while {[gets $file row] >= 0} {
        set words {}
        foreach word [split $row "|"] { lappend words [encoding convertfrom utf-8 [binary decode base64 $word]] }
        set recorder(answer:[llength $recorder(answers)]) [lrange $words 1 end]
        lappend recorder(answers) [lindex $words 0]
    }
    close $file
}
recorder_load [lindex $argv 2]

proc recorder_answer {words} {
    global recorder
    set number -1
    foreach pattern $recorder(answers) {
        incr number
        if {![string match $pattern "[join $words " "] "]} continue
        set values $recorder(answer:$number)
        if {[llength $values] > 1} { set recorder(answer:$number) [lrange $values 1 end] }
        set value [lindex $values 0]
        if {[lindex $value 0] eq "@touch"} {
            foreach path [lrange $value 1 end] {
                file mkdir [file dirname $path]
                close [open $path w]
            }
            return ""
        }
        return [expr {$value eq "@last" ? [lindex $words end] : $value}]
    }
    return ""
}

proc recorder_encode {text} {
    return [binary encode base64 [encoding convertto utf-8 $text]]
}

proc unknown {args} {
    global recorder
    set line 0
    set script $recorder(script)
    # The innermost frame that lies in a file is the script's own.
    for {set level [info frame]} {$level > 0} {incr level -1} {
        set frame [info frame $level]
        if {[dict get $frame type] ne "source"} continue
        if {[file normalize [dict get $frame file]] eq $recorder(self)} continue
        set line [dict get $frame line]
        set script [dict get $frame file]
        break
    }
    set words {}
    foreach word [list $line $script [pwd] {*}$args] { lappend words [recorder_encode $word] }
    puts $recorder(file) [join $words "|"]
    flush $recorder(file)
    return [recorder_answer $args]
}

set argv0 $recorder(script)
set argv {}
set argc 0
source $recorder(script)
