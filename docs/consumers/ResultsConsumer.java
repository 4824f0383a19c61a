import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Processes each output of one partition of a sink exactly once, across failures of leader, Kafka and
 * this program: java -cp 'kafka-libs/*' ResultsConsumer.java BOOTSTRAP TOPIC PARTITION FILE
 *
 * <p>Outputs carry `seq`, dense from 0 in each partition. After a failure some may be in the topic
 * twice: an output whose `seq` is not greater than the last one is dropped. A skipped `seq` is a gap,
 * and an error. The effect of an output is a line in FILE, which begins with the output's seq and its
 * offset, so effect and position are written together. With a database, use one transaction.
 */
public class ResultsConsumer {
  record Position(long seq, long offset) {}

  private static final ObjectMapper JSON = new ObjectMapper();

  public static void main(String[] arguments) throws IOException {
    var partition = new TopicPartition(arguments[1], Integer.parseInt(arguments[2]));
    var file = Path.of(arguments[3]);
    Position position = lastPosition(file);
    Map<String, Object> settings =
        Map.of(
            "bootstrap.servers", arguments[0],
            "key.deserializer", ByteArrayDeserializer.class,
            "value.deserializer", ByteArrayDeserializer.class,
            "enable.auto.commit", false, // the position is stored with the effects
            "auto.offset.reset", "none", // an offset that Kafka no longer has is an error
            "isolation.level", "read_uncommitted"); // Postjournal uses no transactions
    try (var consumer = new KafkaConsumer<byte[], byte[]>(settings);
        var out = FileChannel.open(file, StandardOpenOption.CREATE, StandardOpenOption.APPEND)) {
      consumer.assign(List.of(partition));
      long next = position == null ? firstOffset(consumer, partition) : position.offset + 1;
      consumer.seek(partition, next);
      long last = position == null ? -1 : position.seq;
      while (true) {
        for (var record : consumer.poll(Duration.ofMillis(500))) {
          last = process(record, last, out);
        }
        out.force(false);
      }
    }
  }

  /** Writes the output unless it is a repeat; returns the last sequence written. */
  private static long process(ConsumerRecord<byte[], byte[]> record, long last, FileChannel out)
      throws IOException {
    long seq = JSON.readTree(record.value()).get("seq").asLong();
    if (seq <= last) {
      return last; // a repeat, published by a deposed leader
    }
    if (seq > last + 1) {
      System.err.printf("gap: seq %d at offset %d follows %d%n", seq, record.offset(), last);
      System.exit(4);
    }
    String value = new String(record.value(), StandardCharsets.UTF_8);
    String line = seq + " " + record.offset() + " " + value + "\n";
    ByteBuffer bytes = ByteBuffer.wrap(line.getBytes(StandardCharsets.UTF_8));
    while (bytes.hasRemaining()) {
      out.write(bytes);
    }
    return seq;
  }

  /** Returns offset 0; exits if records were deleted, since it is unknown which outputs they held. */
  private static long firstOffset(KafkaConsumer<?, ?> consumer, TopicPartition partition) {
    long first = consumer.beginningOffsets(List.of(partition)).get(partition);
    if (first > 0) {
      System.err.printf("%s begins at offset %d: choose a position%n", partition, first);
      System.exit(5);
    }
    return first;
  }

  /** Reads the last whole line; cuts off a line that was being written when the program died. */
  private static Position lastPosition(Path path) throws IOException {
    Position found = null;
    long whole = 0;
    try (var file = new RandomAccessFile(path.toFile(), "rw")) {
      byte[] bytes = new byte[(int) file.length()];
      file.readFully(bytes);
      for (int start = 0, end = 0; end < bytes.length; end++) {
        if (bytes[end] == '\n') {
          String[] words = new String(bytes, start, end - start, StandardCharsets.UTF_8).split(" ", 3);
          found = new Position(Long.parseLong(words[0]), Long.parseLong(words[1]));
          start = end + 1;
          whole = start;
        }
      }
      file.setLength(whole);
    }
    return found;
  }
}
